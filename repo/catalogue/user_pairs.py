"""Distinct pairs of values and users, in a bounded memory."""

import numpy as np
from numpy.typing import NDArray

MAX_PAIRS = 2**25
"""The pairs that a question may have in memory, which take 256 MB."""
_SHIFT = 32


class UserPairs:
    """Collects the distinct users of values, which are numbered."""

    def __init__(self, max_pairs: int, part: int = 0, parts: int = 1) -> None:
        """Of `parts` parts of all users, those of `part` are collected."""
        self._max_pairs = max_pairs
        self._part = part
        self._parts = parts
        self._pairs: list[NDArray[np.int64]] = []
        self._size = 0
        self.is_full = False
        """Whether there are more pairs than may be in memory: none is collected then."""

    def add(self, numbers: NDArray[np.int64], users: NDArray[np.uint32]) -> None:
        """Add the users of values; a negative number is no value, and user 0 is none."""
        if self.is_full:
            return
        is_pair = (numbers >= 0) & (users != 0)
        if self._parts > 1:
            is_pair &= users % self._parts == self._part
        pairs = np.unique(numbers[is_pair] << _SHIFT | users[is_pair])
        self._pairs.append(pairs)
        self._size += len(pairs)
        if self._size > self._max_pairs:
            self._compact()

    def clear(self) -> None:
        """Forget all pairs, and collect no more."""
        self._pairs.clear()
        self.is_full = True

    def counts(self) -> dict[int, int]:
        """Return the number of users of each value that has one."""
        pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *self._pairs]))
        numbers, counts = np.unique_counts(pairs >> _SHIFT)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def _compact(self) -> None:
        self._pairs = [np.unique(np.concatenate(self._pairs))]
        self._size = len(self._pairs[0])
        # Otherwise most of the time would be spent here.
        if self._size > self._max_pairs // 2:
            self.clear()


class UserFlags:
    """Collects the users of few values, as a flag for each value and user."""

    def __init__(self, values: int, highest_user: int) -> None:
        self._flags = np.zeros((values, highest_user + 1), np.bool_)

    def add(self, numbers: NDArray[np.int64], users: NDArray[np.uint32]) -> None:
        """Add the users of values; a negative number is no value, and user 0 is none."""
        is_value = numbers >= 0
        self._flags[numbers[is_value], users[is_value]] = True

    def counts(self) -> dict[int, int]:
        """Return the number of users of each value."""
        return dict(enumerate(np.count_nonzero(self._flags[:, 1:], axis=1).tolist()))
