"""Collect cohorts of users from events of columns, and the events with which they return."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.filters import Filter
from common.questions.answer import Checkpoint
from repo.cohorts.calendar import Part
from repo.cohorts.counts import Cohort
from repo.cohorts.elapsed_windows import TimedEvents
from repo.cohorts.entries import EntryCollector, SelectedEvents, UsersOfPeriods
from repo.cohorts.presence import Flags, MemoryBudget, Ordinals, Presence, UserFlags
from repo.columns.filter_evaluation import Mask
from repo.columns.tied_events import Ties
from repo.engine.scan import MatchingEvents
from repo.sequences.first_values import FirstValues


@dataclass(slots=True, kw_only=True)
class CohortCollector:
    """The events with which users enter and return."""

    parts: Sequence[Part]
    """The ranges of the scan."""
    entry: Filter | None
    """The events with which users enter; None for all."""
    comeback: Filter | None
    """The events with which they return; None for all."""
    entries: EntryCollector
    returns: Presence | TimedEvents
    values: FirstValues | None
    """The values of a property of entries, if users are grouped by it."""
    earlier: UserFlags | None
    """Users with an entry before the range; None if they may enter in it."""
    budget: MemoryBudget
    entries_without_user: int = 0
    """The events to enter with that have no user."""

    def add(self, events: MatchingEvents) -> None:
        for part, entering, returning in self._by_part(events):
            self._add(part, entering, returning)

    @property
    def unordered_ties(self) -> Ties:
        """After the cohorts: entries whose order is unknown, and affects the answer."""
        return self.entries.unordered_ties

    def add_in_order(self, events: MatchingEvents) -> None:
        """Add the events of ties again, the events of each tie in order."""
        for part, entering, returning in self._by_part(events):
            if part.period is not None and part.is_entry:
                self.entries.settle(part.period, entering, returning.mask)

    def _by_part(
        self, events: MatchingEvents
    ) -> Iterator[tuple[Part, SelectedEvents, SelectedEvents]]:
        """Yield the events to enter and to return with of each range that has events."""
        entering = _selected(events, self.entry)
        is_equal = self.entry == self.comeback
        returning = entering if is_equal else _selected(events, self.comeback)
        for index, (start, stop) in zip(events.indexes, pairwise(events.positions), strict=True):
            if start < stop:
                rows = slice(start - events.start, stop - events.start)
                entries = SelectedEvents(events, start, entering[rows])
                returns = entries if is_equal else SelectedEvents(events, start, returning[rows])
                yield self.parts[index], entries, returns

    def add_users(self, index: int, entering: Ordinals, returning: Ordinals) -> None:
        """Add the users of the events of a range with which they enter and return.

        Only the periods of these events must matter. Raises: TooExpensive.
        """
        assert isinstance(self.entries, UsersOfPeriods), "times of entries are those of events"
        assert isinstance(self.returns, Presence), "windows need the times of events"
        part = self.parts[index]
        if part.is_earlier and self.earlier is not None:
            self.earlier.add(entering)
        if part.period is None:
            return
        if part.is_entry:
            self.entries.add_users(part.period, entering)
        self.returns.add(part.period, returning)

    def cohorts(self, checkpoint: Checkpoint) -> Iterator[Cohort]:
        """Return the cohort of each period. The iterator raises: what the checkpoint raises."""
        if isinstance(self.returns, Presence):
            self.returns.reserve(self.entries.users)
        return self._cohorts(checkpoint)

    def _cohorts(self, checkpoint: Checkpoint) -> Iterator[Cohort]:
        excluded = self.earlier.flags if self.earlier else np.zeros(0, np.bool_)
        for cohort in self.entries.cohorts(excluded):
            checkpoint()
            yield cohort

    def _add(self, part: Part, entering: SelectedEvents, returning: SelectedEvents) -> None:
        if part.is_earlier and self.earlier is not None:
            self.earlier.add(entering.users)
        if part.period is None:
            return
        if part.is_entry:
            self.entries_without_user += _count_without_user(entering.users)
            self.entries.add(part.period, entering, returning.mask)
        if isinstance(self.returns, TimedEvents):
            self.returns.add(returning.users, returning.times)
        else:
            self.returns.add(part.period, returning.users)


class PeriodCollector:
    """The users of each range of a scan, with ranges before the first period apart."""

    def __init__(self, first: int = 0, counted: int = 0) -> None:
        """`first` is the index of the range that is the first period; from `counted` on events
        without a user are counted."""
        budget = MemoryBudget()
        self._first = first
        self._counted = counted
        self.events_without_user = 0
        self._earlier = UserFlags(budget)
        self.presence = Presence(budget)

    def add(self, events: MatchingEvents) -> None:
        for index, (start, stop) in zip(events.indexes, pairwise(events.positions), strict=True):
            mask = events.mask[start - events.start : stop - events.start]
            users = SelectedEvents(events, start, mask).users
            if index >= self._counted:
                self.events_without_user += _count_without_user(users)
            self.add_users(index, users)

    def add_users(self, index: int, users: Ordinals) -> None:
        """Add users of the range with this index. Raises: TooExpensive."""
        if index < self._first:
            self._earlier.add(users)
        else:
            self.presence.add(index - self._first, users)

    def period_counts(self) -> NDArray[np.int32]:
        """Return the number of periods of each user; shape (users,)."""
        return self.presence.period_counts()

    def earlier_users(self) -> Flags:
        """Return whether each user has an event before the first period; shape (users,)."""
        self.presence.reserve(len(self._earlier.flags))
        flags = np.zeros(self.presence.users, np.bool_)
        flags[: len(self._earlier.flags)] = self._earlier.flags
        return flags


class FrequencyCollector:
    """The number of events of each user in each range of a scan, up to 255."""

    def __init__(self, min_events: int) -> None:
        """`min_events` make a user count in a period, at most 255."""
        self._min_events = min_events
        self.events_without_user = 0
        self._budget = MemoryBudget()
        self._counts: dict[int, NDArray[np.uint8]] = {}

    def add(self, events: MatchingEvents) -> None:
        for index, (start, stop) in zip(events.indexes, pairwise(events.positions), strict=True):
            mask = events.mask[start - events.start : stop - events.start]
            users, counts = np.unique(SelectedEvents(events, start, mask).users, return_counts=True)
            if len(users):
                self.events_without_user += int(counts[0]) if users[0] == 0 else 0
                known = self._of_period(index, int(users[-1]) + 1)
                known[users] = np.minimum(known[users] + counts, 255)

    def period_counts(self) -> NDArray[np.int32]:
        """Return the number of periods of each user with enough events; shape (users,)."""
        users = max(map(len, self._counts.values()), default=1)
        result = np.zeros(users, np.int32)
        for counts in self._counts.values():
            result[: len(counts)] += counts >= self._min_events
        result[0] = 0
        return result

    def _of_period(self, period: int, users: int) -> NDArray[np.uint8]:
        """Return the counts of a period, which are at least `users` long."""
        counts = self._counts.get(period, np.zeros(0, np.uint8))
        if (missing := users - len(counts)) > 0:
            missing += users // 8
            self._budget.take(missing)
            counts = np.concatenate([counts, np.zeros(missing, np.uint8)])
            self._counts[period] = counts
        return counts


def _selected(events: MatchingEvents, condition: Filter | None) -> Mask:
    return events.mask if condition is None else events.matches(condition) & events.mask


def _count_without_user(users: Ordinals) -> int:
    return len(users) - int(np.count_nonzero(users))
