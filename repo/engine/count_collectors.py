"""Collectors of partial aggregates: events and users by range, and by event name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.filters import Filter
from repo.engine.cardinality import (
    Aggregates,
    CardinalityCache,
    PartialAggregate,
    RangeAggregate,
    aggregates,
)
from repo.engine.ordinals import FlaggedUsers, Ordinals, UserMemory
from repo.engine.scan import MatchingEvents

# Above this share of events that match, to set the flag of no user is faster than to leave it out.
_MOST = 0.4


class TotalCollector:
    """Collects the events and users of a single range."""

    def __init__(self) -> None:
        self.events = 0
        """The number of events."""
        self._users = FlaggedUsers()

    def add(self, events: MatchingEvents) -> None:
        self.events += events.count
        if _MOST * len(events.mask) < events.count < len(events.mask):
            self._users.add(events.chunk.user[events.start : events.stop] * events.mask)
        elif events.count:
            self._users.add(events.users)

    def aggregates(self) -> Aggregates:
        """Return the partial aggregate of all events."""
        partial = PartialAggregate(self.events, ordinals=[self._users.ordinals()])
        return Aggregates([RangeAggregate({}, partial)], CardinalityCache())


class CountCollector:
    """Collects the events and users of each range."""

    def __init__(self, ranges: int) -> None:
        """`ranges` is the number of ranges."""
        self.partials = [PartialAggregate() for _ in range(ranges)]
        self._memory = UserMemory()

    def add(self, events: MatchingEvents) -> None:
        """Raises: TooExpensive."""
        users = events.users
        if len(events.indexes) == 1:
            self.partials[events.indexes[0]].add_events(users)
        else:
            for index, part in _by_range(events, users):
                self.partials[index].add_events(part)
        self._memory.take(len(users), self.partials)

    def aggregates(self) -> Aggregates:
        """Return the partial aggregates of all events of each range."""
        return Aggregates([RangeAggregate({}, each) for each in self.partials], CardinalityCache())


class UserCollector:
    """Collects the distinct users of events."""

    def __init__(self, where: Filter | None = None) -> None:
        """`where` is a condition of the scan on the events; None for all events."""
        self._where = where
        self._users = FlaggedUsers()

    def add(self, events: MatchingEvents) -> None:
        mask = events.mask & events.matches(self._where) if self._where else events.mask
        self._users.add(events.chunk.user[events.start : events.stop].compress(mask))

    def users(self) -> Ordinals:
        """Return the distinct users, ascending."""
        return self._users.ordinals()


@dataclass(slots=True)
class NameCollector:
    """Collects the events and users of each range and event name."""

    partials: Sequence[dict[int, PartialAggregate]]
    """By range and id of the event name."""
    _memory: UserMemory = field(default_factory=UserMemory)

    def add(self, events: MatchingEvents) -> None:
        """Raises: TooExpensive."""
        names = _smallest(events.chunk.name[events.rows])
        for index, part in _by_range(events, np.arange(len(names))):
            # Stable sorting of 16 bits takes linear time.
            order = part[np.argsort(names[part], kind="stable")]
            self._add_sorted(self.partials[index], names[order], events.users[order])
        self._memory.take(len(names), chain.from_iterable(map(dict.values, self.partials)))

    def aggregates(self, names: Mapping[int, str], limit: int | None) -> Aggregates:
        """Return the partial aggregates of the most frequent names; None for all."""
        totals: dict[int, int] = {}
        for part in self.partials:
            for name_id, partial in part.items():
                totals[name_id] = totals.get(name_id, 0) + partial.events
        order = sorted(totals, key=lambda name_id: (-totals[name_id], names[name_id]))
        named = {name_id: names[name_id] for name_id in order[:limit]}
        return aggregates(self.partials, named, CardinalityCache())

    @staticmethod
    def _add_sorted(
        partials: dict[int, PartialAggregate], names: NDArray[Any], users: Ordinals
    ) -> None:
        ids, starts = np.unique(names, return_index=True)
        for name_id, ordinals in zip(ids.tolist(), np.split(users, starts[1:]), strict=True):
            partials.setdefault(name_id, PartialAggregate()).add_events(ordinals)


def _by_range(events: MatchingEvents, values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the values of the matching events of each range that has some."""
    bounds = events.bounds
    for index, start, stop in zip(events.indexes, bounds, bounds[1:], strict=False):
        if start < stop:
            yield index, values[start:stop]


def _smallest(name_ids: NDArray[Any]) -> NDArray[Any]:
    highest = int(name_ids.max(initial=0))
    return name_ids.astype(np.int16) if highest <= np.iinfo(np.int16).max else name_ids
