"""The events and users of categories: the groups with the most events, and all others."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.checkpoint import Checkpoint
from repo.engine.cardinality import Count
from repo.engine.grouping.memberships import Codes
from repo.engine.grouping.ranking import CountedCodes, Integers, Ranking
from repo.engine.grouping.user_counts import UserCounter

_MAX_CELLS = 2**21
"""Possible codes whose categories are in tables; those of others are found by bisection."""


class GroupedEvents(NamedTuple):
    """Events of a chunk, once for each of their groups."""

    table: int
    """The position of the tables of the codes."""
    codes: Codes
    users: NDArray[np.uint32]

    def part(self, start: int, end: int) -> "GroupedEvents":
        return GroupedEvents(self.table, self.codes[start:end], self.users[start:end])


class CategoryCounts(NamedTuple):
    """The events and users of some events by category."""

    events: list[int]
    users: UserCounter

    def each(self) -> list[Count]:
        """Return the counts of each category."""
        return list(map(Count, self.events, self.users.counts()))

    def union(self, categories: Sequence[int]) -> Count:
        """Return the counts of categories together."""
        return Count(sum(self.events[each] for each in categories), self.users.union(categories))


class CategoryCounter:
    """Counts events by the categories of a ranking."""

    def __init__(
        self, counted: Sequence[CountedCodes], ranking: Ranking, highest_user: int
    ) -> None:
        self._counted = counted
        self._ranking = ranking
        self._count = len(ranking.values) + 2
        self._stride = highest_user + 1
        # Half as many bytes take half of the time to sort.
        self._kind = np.int32 if self._count * self._stride < 2**31 else np.int64
        self._categories = list(_lookups(counted, ranking, self._kind))
        self._first_keys = [each.times(self._stride) for each in self._categories]

    def count_all(self, events: Sequence[GroupedEvents], checkpoint: Checkpoint) -> CategoryCounts:
        """Return the counts of all events of the ranking.

        Raises: TooExpensive, and what the checkpoint raises.
        """
        sums = np.zeros(self._count, np.int64)
        for each, categories in zip(self._counted, self._ranking.categories, strict=True):
            np.add.at(sums, categories, each.events)
        users, buffer = self._user_counter(events), self._buffer(events)
        for part in events:
            checkpoint()
            keys = self._first_keys[part.table].take(part.codes, buffer)
            users.add(np.add(keys, part.users, out=keys, casting="unsafe"))
        return CategoryCounts(sums.tolist(), users)

    def count(self, events: Sequence[GroupedEvents], checkpoint: Checkpoint) -> CategoryCounts:
        """Return the counts of some events.

        Raises: TooExpensive, and what the checkpoint raises.
        """
        sums = np.zeros(self._count, np.int64)
        users, buffer = self._user_counter(events), self._buffer(events)
        for part in events:
            checkpoint()
            keys = self._categories[part.table].take(part.codes, buffer)
            sums += np.bincount(keys, minlength=self._count)
            keys *= self._kind(self._stride)
            users.add(np.add(keys, part.users, out=keys, casting="unsafe"))
        return CategoryCounts(sums.tolist(), users)

    def _user_counter(self, events: Sequence[GroupedEvents]) -> UserCounter:
        return UserCounter(self._count, self._stride, sum(len(each.codes) for each in events))

    def _buffer(self, events: Sequence[GroupedEvents]) -> NDArray[Any]:
        """Return an array that is used for all chunks, since new memory takes time."""
        return np.empty(max((len(each.codes) for each in events), default=0), self._kind)


class _Lookup:
    """A number for each code: its category, or the first key of its users."""

    def __init__(self, numbers: NDArray[Any], codes: Integers | None) -> None:
        """`numbers` are those of all codes, or of these codes, which are ascending."""
        self._numbers = numbers
        self._codes = codes

    def times(self, factor: int) -> "_Lookup":
        return _Lookup(self._numbers * self._numbers.dtype.type(factor), self._codes)

    def take(self, codes: Codes, buffer: NDArray[Any]) -> Any:
        """Return the numbers of codes in a part of the buffer."""
        positions = codes if self._codes is None else np.searchsorted(self._codes, codes)
        # All positions are valid, and numpy would check them in another buffer.
        return self._numbers.take(positions, out=buffer[: len(codes)], mode="clip")


def _lookups(
    counted: Sequence[CountedCodes], ranking: Ranking, kind: type[np.int32 | np.int64]
) -> Iterator[_Lookup]:
    cells = 0
    for each, categories in zip(counted, ranking.categories, strict=True):
        size = prod(map(len, each.tables))
        cells += size
        if cells <= _MAX_CELLS:
            table = np.zeros(size, kind)
            table[each.codes] = categories
            yield _Lookup(table, None)
        else:
            yield _Lookup(categories.astype(kind), each.codes)
