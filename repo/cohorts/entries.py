"""Collect the events with which users enter, and return the cohorts of these users."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from repo.cohorts.counts import Cohort, Times, exclude_users, positions_by_number
from repo.cohorts.earliest_events import EarliestEvents, Entries, first_rows
from repo.cohorts.presence import NEVER, Flags, MemoryBudget, Ordinals, Presence
from repo.columns.chunk import Chunk
from repo.columns.filter_evaluation import Mask
from repo.columns.tied_events import NO_TIES, Ties
from repo.engine.scan import MatchingEvents
from repo.sequences.first_values import FirstValues


@dataclass(frozen=True, slots=True)
class SelectedEvents:
    """Some events of a chunk: of its rows from `start` on those for which `mask` is true."""

    source: MatchingEvents
    start: int
    mask: Mask

    @property
    def chunk(self) -> Chunk:
        return self.source.chunk

    @property
    def users(self) -> Ordinals:
        users = self.chunk.user[self._rows]
        # Often all events match, and then a copy takes as long as all else.
        return users if self.mask.all() else users[self.mask]

    @property
    def times(self) -> Times:
        return self.chunk.time[self._rows][self.mask]

    @property
    def ids(self) -> NDArray[np.void]:
        return self.chunk.event_id[self._rows][self.mask]

    @property
    def _rows(self) -> slice:
        return slice(self.start, self.start + len(self.mask))


class EntryCollector(Protocol):
    """Collects the events with which users enter, period by period."""

    @property
    def users(self) -> int:
        """The length of arrays by user: one more than the highest ordinal."""
        ...

    def add(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        """Add events of a period; `is_return` tells for all rows with which of them users return.

        Raises: TooExpensive.
        """
        ...

    def cohorts(self, excluded: Flags) -> Iterable[Cohort]:
        """Return the cohort of each period.

        Users for whom `excluded` is true are in none; it may be longer or shorter than `users`.
        """
        ...

    @property
    def unordered_ties(self) -> Ties:
        """After `cohorts`: entries at one instant in an unknown order, so that any may be first."""
        ...

    def settle(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        """Add the events of ties again, the events of each tie in order."""
        ...


class UsersOfPeriods:
    """Entries of which only the periods matter."""

    def __init__(
        self, presence: Presence, periods: int, *, is_first: bool, is_shared: bool = False
    ) -> None:
        """`is_first`: users enter in their first period alone. `is_shared`: the presence has the
        users already, since they return with the same events.
        """
        self._presence = presence
        self._periods = periods
        self._is_first = is_first
        self._is_shared = is_shared

    @property
    def users(self) -> int:
        return self._presence.users

    def add(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        self.add_users(period, events.users)

    def add_users(self, period: int, users: Ordinals) -> None:
        """Add users who enter in a period. Raises: TooExpensive."""
        if not self._is_shared:
            self._presence.add(period, users)

    def cohorts(self, excluded: Flags) -> Iterable[Cohort]:
        if not self._is_first:
            return self._cohorts_of_all()
        first = self._presence.first_periods(self._periods)
        exclude_users(first, excluded, NEVER)
        return map(Cohort, positions_by_number(first, self._periods))

    def _cohorts_of_all(self) -> Iterator[Cohort]:
        for period in range(self._periods):
            yield Cohort(np.flatnonzero(self._presence.flags(period)))

    @property
    def unordered_ties(self) -> Ties:
        return NO_TIES

    def settle(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        pass


class FirstEntries:
    """The first entry of each user, with its time."""

    def __init__(
        self, starts: NDArray[np.int64], budget: MemoryBudget, values: FirstValues | None = None
    ) -> None:
        """`starts` are those of the periods; `values` has those of the entries."""
        self._earliest = EarliestEvents(budget)
        self._starts = starts
        self._values = values

    @property
    def users(self) -> int:
        return self._earliest.users

    def add(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        self._earliest.add(_first_events(events, is_return, self._values))

    def cohorts(self, excluded: Flags) -> list[Cohort]:
        return self._earliest.cohorts(self._starts, excluded)

    @property
    def unordered_ties(self) -> Ties:
        return self._earliest.unordered_ties

    def settle(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        self._earliest.settle(_first_events(events, is_return, self._values))


class FirstEntriesOfPeriods:
    """The first entry of each user in each period, with its time."""

    def __init__(
        self, starts: NDArray[np.int64], budget: MemoryBudget, values: FirstValues | None = None
    ) -> None:
        """`starts` are those of the periods; `values` has those of the entries."""
        self._starts = starts
        self._budget = budget
        self._values = values
        self._parts: dict[int, list[Entries]] = {}
        self._settled: dict[int, list[Entries]] = {}
        self.users = 1
        self.unordered_ties = NO_TIES

    def add(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        part = _first_events(events, is_return, self._values)
        if len(part.users):
            self._budget.take(part.size)
            self.users = max(self.users, int(part.users.max()) + 1)
            self._parts.setdefault(period, []).append(part)

    def cohorts(self, excluded: Flags) -> Iterator[Cohort]:
        unordered = [NO_TIES]
        for period in range(len(self._starts)):
            earliest = EarliestEvents(self._budget)
            for part in self._parts.get(period, ()):
                earliest.add(part)
            unordered.append(earliest.unordered_ties)
            for part in self._settled.get(period, ()):
                earliest.settle(part)
            yield from earliest.cohorts(self._starts[period : period + 1], excluded)
            earliest.release()
        self.unordered_ties = Ties(*map(np.concatenate, zip(*unordered, strict=True)))

    def settle(self, period: int, events: SelectedEvents, is_return: Mask) -> None:
        part = _first_events(events, is_return, self._values)
        self._settled.setdefault(period, []).append(part)


def _first_events(events: SelectedEvents, is_return: Mask, values: FirstValues | None) -> Entries:
    """Return the first of these events of each user, with their values if these are needed."""
    users = events.users
    first = first_rows(users)
    rows = np.flatnonzero(events.mask)[first]
    return Entries(
        users[first],
        events.times[first],
        events.ids[first],
        is_return[rows],
        values.codes(events.source, rows + events.start) if values else None,
    )
