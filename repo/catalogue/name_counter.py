"""Count the events and users of all event names, chunk by chunk."""

from collections.abc import Callable, Mapping
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
        if len(ids):
            # Of equal indexes, numpy assigns the last one.
            self._add_times(self._first, ids[::-1], times[::-1], min)
            self._add_times(self._last, ids, times, max)

    def rows(self, users_of: Mapping[int, int], names: Mapping[int, str]) -> list[NameCount]:
        """Return all names, most events first; `names` has them by their ids."""
        rows = [
            NameCount(names[int(each.value)], each.events, each.users, *self._seen(each))
            for each in self.counter.statistics(users_of).values or ()
        ]
        return sorted(rows, key=lambda row: (-row.events, row.name))

    def _seen(self, count: ValueCount) -> tuple[int, int]:
        return self._first[int(count.value)], self._last[int(count.value)]

    @staticmethod
    def _add_times(
        seen: dict[int, int],
        ids: NDArray[np.int32],
        times: NDArray[np.int64],
        choose: Callable[[int, int], int],
    ) -> None:
        """Choose between the last time of each id and the one that is seen already."""
        last = np.zeros(int(ids.max()) + 1, np.int64)
        last[ids] = times
        for name_id in np.flatnonzero(np.bincount(ids)).tolist():
            time = int(last[name_id])
            seen[name_id] = choose(time, seen.get(name_id, time))
