"""The first event of each user, among those of chunks that may overlap in time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.cohorts.counts import Codes, Cohort, Times, exclude_users, positions_by_number
from repo.cohorts.presence import Flags, MemoryBudget, Ordinals
from repo.columns.tied_events import NO_TIES, Ties, distinct_ties

_NO_TIME = 2**62
_USER_BYTES = 29  # of the arrays of `EarliestEvents`
_Ids = NDArray[np.uint64]


class Entries(NamedTuple):
    """Events of one chunk, one of each user."""

    users: Ordinals
    times: Times
    ids: NDArray[np.void]
    """The ids of the events, by which those of a user at the same time are ordered."""
    is_return: Flags
    """Whether they are also events that users return with."""
    values: Codes | None = None
    """Codes of their values, if users are grouped."""

    @property
    def size(self) -> int:
        """The bytes of the arrays."""
        return sum(each.nbytes for each in self if each is not None)


class EarliestEvents:
    """The first event of each user so far."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._unordered: list[tuple[Times, Ordinals]] = []
        self._times = np.zeros(0, np.int64)
        self._ids = np.zeros((0, 2), np.uint64)
        self._is_return = np.zeros(0, np.bool_)
        self._values = np.zeros(0, np.int32)

    @property
    def users(self) -> int:
        """The length of arrays by user: more than the highest ordinal."""
        return len(self._times)

    def add(self, entries: Entries) -> None:
        """Add events, in any order of chunks. Raises: TooExpensive."""
        users, times = entries.users, entries.times
        if not len(users):
            return
        self._reserve(int(users.max()) + 1)
        is_first = times < self._times[users]
        ids = _halves(entries.ids)
        tied = np.flatnonzero(times == self._times[users])
        if len(tied):
            self._note_unordered(entries, ids, tied)
        is_first[tied] = _before(ids[tied], self._ids[users[tied]])
        self._replace(entries, ids, is_first)

    def settle(self, entries: Entries) -> None:
        """Let events be the first of their users among all at the same instant."""
        known = np.flatnonzero(entries.users < self.users)
        is_first = np.zeros(len(entries.users), np.bool_)
        is_first[known] = entries.times[known] == self._times[entries.users[known]]
        self._replace(entries, _halves(entries.ids), is_first)

    @property
    def unordered_ties(self) -> Ties:
        """The users with several events at the first instant, of which it matters which is first.

        Their order is not known, since the chunk of one lacks its id.
        """
        if not self._unordered:
            return NO_TIES
        times, users = map(np.concatenate, zip(*self._unordered, strict=True))
        is_first = self._times[users] == times
        return distinct_ties(times[is_first], users[is_first])

    def _note_unordered(self, entries: Entries, ids: _Ids, tied: NDArray[np.intp]) -> None:
        users = entries.users[tied]
        differs = entries.is_return[tied] != self._is_return[users]
        if entries.values is not None:
            differs |= entries.values[tied] != self._values[users]
        lacks_id = ~(ids[tied].any(axis=1) & self._ids[users].any(axis=1))
        rows = tied[differs & lacks_id]
        if len(rows):
            self._unordered.append((entries.times[rows], entries.users[rows]))

    def _replace(self, entries: Entries, ids: _Ids, is_first: Flags) -> None:
        replaced, times = entries.users[is_first], entries.times
        self._times[replaced] = times[is_first]
        self._ids[replaced] = ids[is_first]
        self._is_return[replaced] = entries.is_return[is_first]
        if entries.values is not None:
            self._values[replaced] = entries.values[is_first]

    def cohorts(self, starts: NDArray[np.int64], excluded: Flags) -> list[Cohort]:
        """Return the cohort for each start: users whose first event is between it and the next one.

        `starts` ascend, and no event is before the first. Users for whom `excluded` is true are in
        no cohort.
        """
        periods = np.searchsorted(starts, self._times, side="right") - 1
        periods[self._times == _NO_TIME] = len(starts)
        exclude_users(periods, excluded, len(starts))
        periods[:1] = len(starts)  # events without a user
        return [
            Cohort(users, self._times[users], self._is_return[users], self._values[users])
            for users in positions_by_number(periods, len(starts))
        ]

    def release(self) -> None:
        """Forget all events."""
        self._budget.take(-len(self._times) * _USER_BYTES)
        self.__init__(self._budget)  # type: ignore[misc]

    def _reserve(self, users: int) -> None:
        """Make the arrays at least so long."""
        if (missing := users - len(self._times)) > 0:
            missing += users // 8
            self._budget.take(missing * _USER_BYTES)
            self._times = np.concatenate([self._times, np.full(missing, _NO_TIME, np.int64)])
            self._ids = np.concatenate([self._ids, np.zeros((missing, 2), np.uint64)])
            self._is_return = np.concatenate([self._is_return, np.zeros(missing, np.bool_)])
            self._values = np.concatenate([self._values, np.zeros(missing, np.int32)])


def first_rows(users: Ordinals) -> NDArray[np.intp]:
    """Return the position of the first event of each user, ascending."""
    if not len(users):
        return np.zeros(0, np.intp)
    positions = np.arange(len(users), dtype=np.int32)
    first = np.zeros(int(users.max()) + 1, np.int32)
    first[users[::-1]] = positions[::-1]  # of the positions of a user, the one written last stays
    return np.flatnonzero(first[users] == positions)


def _halves(ids: NDArray[np.void]) -> _Ids:
    """Return ids as two integers each, in their order; shape (ids, 2)."""
    return np.ascontiguousarray(ids).view(">u8").reshape(-1, 2).astype(np.uint64)


def _before(ids: _Ids, others: _Ids) -> Flags:
    """Return whether ids come before others."""
    is_equal = ids[:, 0] == others[:, 0]
    return (ids[:, 0] < others[:, 0]) | (is_equal & (ids[:, 1] < others[:, 1]))  # type: ignore[no-any-return]
