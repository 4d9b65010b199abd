"""Windows of elapsed time after the entries of users, and who is present in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repo.cohorts.counts import (
    ALL_IN_ONE,
    Cohort,
    CohortCounts,
    Counts,
    Grouping,
    Times,
    counts_of_at_least,
    positions_by_number,
    stacked_counts,
    user_counts,
)
from repo.cohorts.presence import Flags, MemoryBudget, Ordinals, Presence

_NO_TIME = 2**62
"""In place of the time of a user without an entry."""


class TimedEvents:
    """Events by user and time."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._parts: list[tuple[Ordinals, Times]] = []
        self.users = 1
        """The length of arrays by user: one more than the highest ordinal."""

    def add(self, users: Ordinals, times: Times) -> None:
        """Add events in the order of time. Raises: TooExpensive."""
        if len(users):
            self._budget.take(users.nbytes + times.nbytes)
            self.users = max(self.users, int(users.max()) + 1)
            self._parts.append((users, times))

    def between(self, start: int, end: int) -> Iterator[tuple[Ordinals, Times]]:
        """Yield the events from `start` to before `end`, in parts."""
        for users, times in self._parts:
            first, last = np.searchsorted(times, (start, end)).tolist()
            if first < last:
                yield users[first:last], times[first:last]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElapsedWindows:
    """Windows of equal length that follow the entry of each user, one after the other."""

    length: int
    """In microseconds."""
    count: int
    clock: int
    """Windows that have not ended by then do not count."""
    is_open_ended: bool = False
    """Whether a user who is present in a later window counts in a window, too."""

    def counts(
        self,
        waves: Iterable[Sequence[Cohort]],
        events: TimedEvents,
        budget: MemoryBudget,
        grouping: Grouping = ALL_IN_ONE,
    ) -> CohortCounts:
        """Count the users of cohorts by window.

        The cohorts of one wave have no user in common. Raises: TooExpensive.
        """
        users, cells, of = list[Counts](), list[Counts](), list[Counts]()
        for wave in waves:
            presence = self._presence(wave, events, budget)
            last = presence.last_periods() if self.is_open_ended else None
            for cohort in wave:
                groups = grouping.groups(cohort)
                final = self._ended(cohort) - 1
                users.append(user_counts(cohort, groups, grouping.count))
                of.append(counts_of_at_least(final, self.count, groups, grouping.count))
                if last is None:
                    part = presence.counts(cohort.ordinals, 0, self.count, groups, grouping.count)
                else:
                    numbers = np.minimum(last[cohort.ordinals], final)
                    part = counts_of_at_least(numbers, self.count, groups, grouping.count)
                cells.append(part)
            presence.release()
        shape = (grouping.count, 0, self.count)
        sizes = stacked_counts(users, shape[:2])
        return CohortCounts(sizes, stacked_counts(cells, shape), stacked_counts(of, shape))

    def present(
        self, cohort: Cohort, window: int, events: TimedEvents, budget: MemoryBudget
    ) -> Flags:
        """Return which users of a cohort `counts` counts in a window. Raises: TooExpensive."""
        presence = self._presence([cohort], events, budget)
        if self.is_open_ended:
            last = presence.last_periods()[cohort.ordinals]
            flags: Flags = np.minimum(last, self._ended(cohort) - 1) >= window
        else:
            flags = presence.flags(window)[cohort.ordinals]
        presence.release()
        return flags

    def _ended(self, cohort: Cohort) -> Counts:
        """Return how many windows of each user have ended."""
        ended: Counts = (self.clock - _times(cohort)) // self.length
        return ended

    def _presence(
        self, wave: Sequence[Cohort], events: TimedEvents, budget: MemoryBudget
    ) -> Presence:
        """Return which users of a wave have events in which windows, without the entries."""
        presence = Presence(budget)
        members = [cohort for cohort in wave if len(cohort.ordinals)]
        highest = max((int(cohort.ordinals.max()) for cohort in members), default=0)
        presence.reserve(max(highest + 1, events.users))
        if not members:
            return presence
        entries = np.full(presence.users, _NO_TIME, np.int64)
        at_entry = np.zeros(presence.users, np.int32)
        for cohort in members:
            entries[cohort.ordinals] = _times(cohort)
            if cohort.is_return is not None:  # one event at the instant is the entry itself
                at_entry[cohort.ordinals] -= cohort.is_return
        for users, times in events.between(*self._reach(members)):
            since = times - entries[users]
            np.add.at(at_entry, users[since == 0], 1)
            for window, positions in self._by_window(times, since):
                presence.add(window, users[positions])
        presence.add(0, self._at_entry(at_entry, entries))
        return presence

    def _reach(self, cohorts: Sequence[Cohort]) -> tuple[int, int]:
        """Return from when and until when events may be in windows."""
        start = min(int(_times(cohort).min()) for cohort in cohorts)
        last = max(int(_times(cohort).max()) for cohort in cohorts)
        end = _NO_TIME if self.is_open_ended else last + self.length * self.count
        return start, end

    def _at_entry(self, counts: NDArray[np.int32], entries: Times) -> Ordinals:
        """Return the users with an event at the instant of their entry besides the entry."""
        users = np.flatnonzero(counts > 0)
        if not self.is_open_ended:
            users = users[entries[users] <= self.clock - self.length]
        return users.astype(np.uint32)

    def _by_window(self, times: Times, since: Times) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield windows with the positions of the events in them that follow the entry."""
        windows = since // self.length
        counts = since > 0
        if self.is_open_ended:
            np.minimum(windows, self.count, out=windows)
        else:
            counts &= windows < self.count
            counts &= times - since + (windows + 1) * self.length <= self.clock
        rows = np.flatnonzero(counts)
        positions = positions_by_number(windows[rows], self.count + 1)
        for window, part in enumerate(positions):
            if len(part):
                yield window, rows[part]


def _times(cohort: Cohort) -> Times:
    assert cohort.times is not None, "windows of elapsed time begin with entries"
    return cohort.times
