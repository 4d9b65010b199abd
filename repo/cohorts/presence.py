"""The presence of users in periods: a bit for each user and period."""

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive

Ordinals = NDArray[np.uint32]
Flags = NDArray[np.bool_]
Octets = NDArray[np.uint8]
Groups = NDArray[np.int64]
"""The number of the group of each of some users, from 0."""

_VALUES = np.arange(256, dtype=np.uint8)
_BITS = np.unpackbits(_VALUES[:, None], axis=1, bitorder="little").astype(np.int64)
"""The bits of each value of an octet; shape (256, 8)."""
_LOWEST = _BITS.argmax(axis=1).astype(np.uint16)
"""The lowest bit of each value that is not 0."""
_HIGHEST = 7 - _BITS[:, ::-1].argmax(axis=1).astype(np.int16)
_BIT_COUNTS = _BITS.sum(axis=1).astype(np.int32)

_NO_OCTETS = np.zeros(0, np.uint8)

NEVER = 2**16 - 1
"""In place of the first period of a user who has none."""

_MAX_OPEN = 8
"""Periods with a byte for each user."""
_MAX_BYTES = 192 * 2**20
_CHEAPER = "a longer interval, a shorter range, or fewer periods"


class MemoryBudget:
    """The memory that the parts of one evaluation hold together."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    def take(self, count: int) -> None:
        """Add a number of bytes, which may be negative. Raises: TooExpensive."""
        self._bytes += count
        if self._bytes > self._max_bytes:
            raise TooExpensive("bytes about users", self._bytes, self._max_bytes, _CHEAPER)


class UserFlags:
    """A set of users."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.flags = np.zeros(0, np.bool_)
        """Whether each user is in the set; users beyond the end are not."""

    def add(self, users: Ordinals) -> None:
        """Add users, which may repeat. Raises: TooExpensive."""
        try:
            self.flags[users] = True
        except IndexError:  # which is found out faster than the highest ordinal
            self._reserve(int(users.max()) + 1)
            self.flags[users] = True

    def _reserve(self, users: int) -> None:
        if (missing := users - len(self.flags)) > 0:
            missing += users // 8
            self._budget.take(missing)
            self.flags = np.concatenate([self.flags, np.zeros(missing, np.bool_)])


class Presence:
    """The users of each of a number of periods, which are numbered from 0.

    Eight periods share an octet for each user. A few periods, to which users are being added, have
    a byte for each user instead, which takes half the time to set. Users are ordinals, which are
    positions in arrays; the one of events without a user, 0, is left out of all results.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._octets: dict[int, Octets] = {}
        self._open: dict[int, UserFlags] = {}
        self._unused: list[UserFlags] = []
        self._users = 1

    @property
    def users(self) -> int:
        """The length of arrays by user: more than the highest ordinal."""
        self._close_all()
        return self._users

    def reserve(self, users: int) -> None:
        """Make arrays by user at least so long."""
        self._users = max(self._users, users)

    def add(self, period: int, users: Ordinals) -> None:
        """Add users of a period, which may repeat. Raises: TooExpensive."""
        if len(users):
            (self._open.get(period) or self._open_period(period)).add(users)

    def flags(self, period: int) -> Flags:
        """Return for each user whether they are in a period; shape (users,)."""
        self._close_all()
        flags: Flags = (self._octet(period // 8) & np.uint8(1 << period % 8)) != 0
        flags[0] = False
        return flags

    def first_periods(self, end: int) -> NDArray[np.uint16]:
        """Return the first period of each user, or `NEVER`; shape (users,).

        Users whose first period is `end` or a later one may have any number from `end` on.
        """
        first = np.full(self.users, NEVER, np.uint16)
        for index in sorted(self._octets, reverse=True):
            if index * 8 < end:
                octet = self._octet(index)
                np.copyto(first, _LOWEST.take(octet) + np.uint16(index * 8), where=octet != 0)
        first[0] = NEVER
        return first

    def last_periods(self) -> NDArray[np.int16]:
        """Return the last period of each user, or -1; shape (users,)."""
        last = np.full(self.users, -1, np.int16)
        for index in sorted(self._octets):
            octet = self._octet(index)
            np.copyto(last, _HIGHEST.take(octet) + np.int16(index * 8), where=octet != 0)
        last[0] = -1
        return last

    def period_counts(self) -> NDArray[np.int32]:
        """Return the number of periods of each user; shape (users,)."""
        counts = np.zeros(self.users, np.int32)
        for index in self._octets:
            counts += _BIT_COUNTS[self._octet(index)]
        counts[0] = 0
        return counts

    def release(self) -> None:
        """Forget all users."""
        self._close_all()
        of_bits = sum(map(len, self._octets.values()))
        self._budget.take(-of_bits - sum(len(each.flags) for each in self._unused))
        self._octets.clear()
        self._unused.clear()

    def counts(
        self,
        members: NDArray[np.intp],
        first: int,
        count: int,
        groups: Groups | None = None,
        group_count: int = 1,
    ) -> NDArray[np.int64]:
        """Return how many of the members are in each of `count` periods from `first` on.

        `members` are distinct ordinals without 0. The shape is (groups, periods).
        """
        self._close_all()
        indexes = range(first // 8, (first + count - 1) // 8 + 1)
        parts = [self._octet_counts(index, members, groups, group_count) for index in indexes]
        skipped = first % 8
        return np.concatenate(parts, axis=1)[:, skipped : skipped + count]

    def _octet_counts(
        self, index: int, members: NDArray[np.intp], groups: Groups | None, group_count: int
    ) -> NDArray[np.int64]:
        """Return how many members are in each of the periods of an octet; shape (groups, 8)."""
        if index not in self._octets or not len(members):
            return np.zeros((group_count, 8), np.int64)
        values: NDArray[np.integer] = self._octet(index)[members]
        if groups is not None:
            values = values + groups * 256
        tally = np.bincount(values, minlength=group_count * 256)
        return tally.reshape(group_count, 256) @ _BITS

    def _open_period(self, period: int) -> UserFlags:
        """Let a period have bytes, and another one bits if too many have bytes."""
        if len(self._open) == _MAX_OPEN:
            self._close_period(next(iter(self._open)))
        self._open[period] = flags = self._unused.pop() if self._unused else UserFlags(self._budget)
        return flags

    def _close_all(self) -> None:
        while self._open:
            self._close_period(next(iter(self._open)))

    def _close_period(self, period: int) -> None:
        """Move the bytes of a period into bits."""
        flags = self._open.pop(period)
        self.reserve(len(flags.flags))
        octet = self._octet_to_change(period // 8)[: len(flags.flags)]
        bits = flags.flags.view(np.uint8)
        np.left_shift(bits, np.uint8(period % 8), out=bits)
        np.bitwise_or(octet, bits, out=octet)
        flags.flags[:] = False
        self._unused.append(flags)

    def _octet(self, index: int) -> Octets:
        """Return the octets of eight periods; shape (users,)."""
        if index not in self._octets:
            return np.zeros(self._users, np.uint8)
        return self._octet_to_change(index)[: self._users]

    def _octet_to_change(self, index: int) -> Octets:
        """Return the array of eight periods, which is at least `users` long."""
        octet = self._octets.get(index, _NO_OCTETS)
        if len(octet) < self._users:
            # With room for new users of the chunks that follow.
            longer = np.zeros(self._users + self._users // 8, np.uint8)
            self._budget.take(len(longer) - len(octet))
            longer[: len(octet)] = octet
            self._octets[index] = octet = longer
        return octet
