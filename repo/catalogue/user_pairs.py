"""Distinct pairs of values and users, in a bounded memory."""

import numpy as np
from numpy.typing import NDArray

from utils.distinct import distinct, is_first

MAX_PAIRS = 2**25
"""The pairs that a question may have in memory, which take 256 MB."""
_SHIFT = 32
_USER = 2**_SHIFT - 1

_Pairs = NDArray[np.int64]
"""`number of the value << 32 | ordinal of the user`."""


class UserPairs:
    """Collects the distinct users of values, which are numbered.

    If there are too many pairs, only a part of the users is collected: those whose ordinals leave
    the remainder `part` when divided by `parts`.
    """

    def __init__(self, max_pairs: int, part: int = 0, parts: int = 1) -> None:
        self._max_pairs = max_pairs
        self._part = part
        self._pairs: list[_Pairs] = []
        self._size = 0
        self.parts = parts

    @property
    def is_complete(self) -> bool:
        """Whether all users are collected."""
        return self.parts == 1

    def add(self, numbers: NDArray[np.int64], users: NDArray[np.uint32]) -> None:
        """Add the users of values; a negative number is no value, and user 0 is none."""
        is_pair = (numbers >= 0) & (users != 0)
        if self.parts > 1:
            is_pair &= users % self.parts == self._part
        pairs = distinct(numbers[is_pair] << _SHIFT | users[is_pair])
        self._pairs.append(pairs)
        self._size += len(pairs)
        if self._size > self._max_pairs:
            self._compact()

    def clear(self) -> None:
        """Forget all pairs."""
        self._pairs.clear()
        self._size = 0

    def counts(self) -> dict[int, int]:
        """Return the number of users of each value that has one."""
        numbers = self._merged() >> _SHIFT
        starts = np.flatnonzero(is_first(numbers))
        counts = np.diff(starts, append=len(numbers))
        return dict(zip(numbers[starts].tolist(), counts.tolist(), strict=True))

    def _compact(self) -> None:
        pairs = self._merged()
        # With more than half, most of the time would be spent here.
        while len(pairs) > self._max_pairs // 2:
            self.parts *= 2
            pairs = pairs[(pairs & _USER) % self.parts == self._part]
        self._pairs, self._size = [pairs], len(pairs)

    def _merged(self) -> _Pairs:
        """Return all pairs, and forget them."""
        merged = np.concatenate([np.zeros(0, np.int64), *self._pairs])
        self.clear()
        merged.sort()  # in place, unlike `distinct`, since it is large
        return merged[is_first(merged)]
