"""Count the events and users of all event names, chunk by chunk."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.catalogue.property_counter import MAX_DISTINCT, PropertyCounter
from repo.catalogue.statistics import EVENT_NAMES, ValueCount
from repo.catalogue.user_pairs import UserPairs
from repo.engine.scan import MatchingEvents


class NameCount(NamedTuple):
    """An event name with its events and users."""

    name: str
    events: int
    users: int
    first: int
    """The time of the first event, in microseconds since 2000-01-01 UTC."""
    last: int


class NameCounter:
    """Counts events by name: a `Collector`."""

    def __init__(self, pairs: UserPairs) -> None:
        """`pairs` receives the users of names."""
        self.counter = PropertyCounter(EVENT_NAMES, pairs, max_values=MAX_DISTINCT)
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def add(self, events: MatchingEvents) -> None:
        """Add the selected events of a chunk, which are in the order of time."""
        self.counter.add(events)
        ids, times = events.chunk.name[events.rows], events.chunk.time[events.rows]
        for name_id, position in _firsts(ids):
            time = int(times[position])
            self._first[name_id] = min(time, self._first.get(name_id, time))
        for name_id, position in _firsts(ids[::-1]):
            time = int(times[-1 - position])
            self._last[name_id] = max(time, self._last.get(name_id, time))

    def rows(self, users_of: Mapping[int, int], names: Mapping[int, str]) -> list[NameCount]:
        """Return all names, most events first; `names` has them by their ids."""
        rows = [
            NameCount(names[int(each.value)], each.events, each.users, *self._seen(each))
            for each in self.counter.statistics(users_of).values or ()
        ]
        return sorted(rows, key=lambda row: (-row.events, row.name))

    def _seen(self, count: ValueCount) -> tuple[int, int]:
        return self._first[int(count.value)], self._last[int(count.value)]


def _firsts(ids: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Yield the distinct ids, each with the position at which it stands first."""
    distinct, positions = np.unique(ids, return_index=True)
    return zip(distinct.tolist(), positions.tolist(), strict=True)
