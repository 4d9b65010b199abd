"""The events and users of categories: the groups with the most events, and all others."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.questions.answer import Checkpoint
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
        self._lookups = list(_lookups(counted, ranking, self._stride))

    def count_all(self, events: Sequence[GroupedEvents], checkpoint: Checkpoint) -> CategoryCounts:
        """Return the counts of all events of the ranking.

        Raises: TooExpensive, and what the checkpoint raises.
        """
        sums = np.zeros(self._count, np.int64)
        for each, categories in zip(self._counted, self._ranking.categories, strict=True):
            np.add.at(sums, categories, each.events)
        return CategoryCounts(sums.tolist(), self._users(events, checkpoint))

    def count(self, events: Sequence[GroupedEvents], checkpoint: Checkpoint) -> CategoryCounts:
        """Return the counts of some events.

        Raises: TooExpensive, and what the checkpoint raises.
        """
        sums = np.zeros(self._count, np.int64)
        for each in events:
            categories = self._lookups[each.table].categories(each.codes)
            sums += np.bincount(categories, minlength=self._count)
        return CategoryCounts(sums.tolist(), self._users(events, checkpoint))

    def _users(self, events: Sequence[GroupedEvents], checkpoint: Checkpoint) -> UserCounter:
        size = sum(len(each.codes) for each in events)
        users = UserCounter(self._count, self._stride, size)
        for each in events:
            checkpoint()
            keys = self._lookups[each.table].first_keys(each.codes)
            keys += each.users
            users.add(keys)
        return users


class _Lookup:
    """The categories of codes, and the keys of users at which these begin."""

    def __init__(
        self, counted: CountedCodes, categories: Integers, stride: int, size: int | None
    ) -> None:
        """`size` is the number of possible codes; None for too many."""
        self._codes = counted.codes if size is None else None
        if size is not None:
            table = np.zeros(size, np.int64)
            table[counted.codes] = categories
            categories = table
        self._categories = categories
        self._first_keys = categories * stride

    def categories(self, codes: Codes) -> Integers:
        return self._categories.take(self._positions(codes))

    def first_keys(self, codes: Codes) -> Integers:
        """Return `category * stride` of codes, as a new array."""
        return self._first_keys.take(self._positions(codes))

    def _positions(self, codes: Codes) -> Codes:
        return codes if self._codes is None else np.searchsorted(self._codes, codes)


def _lookups(counted: Sequence[CountedCodes], ranking: Ranking, stride: int) -> Iterator[_Lookup]:
    cells = 0
    for each, categories in zip(counted, ranking.categories, strict=True):
        size = prod(map(len, each.tables))
        cells += size
        yield _Lookup(each, categories, stride, size if cells <= _MAX_CELLS else None)
