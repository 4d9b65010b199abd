"""Exact counts of distinct users by category, in bounded memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from repo.engine.ordinals import count_distinct

_MAX_FLAGS = 2**26
_MAX_PENDING = 2**22
_MAX_KEYS = 3 * 2**22
"""Distinct pairs of a category and a user: 96 MB, and as much while they are sorted."""
_SPARSE = 16
"""Above one pair for so many possible ones, setting flags is faster than sorting."""

Keys = NDArray[np.int32] | NDArray[np.int64]
"""Pairs of a category and a user: `category * stride + ordinal of the user`."""


class UserCounter:
    """Counts the distinct users of each of some categories, and of unions of them."""

    def __init__(self, categories: int, stride: int, pairs: int) -> None:
        """`stride` is above all ordinals; about `pairs` pairs will be added."""
        self._firsts = np.arange(categories, dtype=np.int64) * stride
        self._stride = stride
        cells = categories * stride
        is_dense = cells <= min(_MAX_FLAGS, _SPARSE * pairs)
        self._flags = np.zeros(cells, np.bool_) if is_dense else None
        self._distinct: Keys = np.zeros(0, np.int32)
        self._pending: list[Keys] = []

    def add(self, keys: Keys) -> None:
        """Add pairs; they may repeat, and ordinal 0 is no user. The array may change afterwards.

        Raises: TooExpensive.
        """
        if self._flags is not None:
            self._flags[keys] = True
            return
        self._pending.append(keys.copy())
        if sum(map(len, self._pending)) > max(_MAX_PENDING, len(self._distinct)):
            self._settle()

    def counts(self) -> list[int]:
        """Return the number of distinct users of each category."""
        if self._flags is not None:
            # Row by row: with an axis, numpy converts the flags first.
            table = self._flags.reshape(-1, self._stride)
            return [int(np.count_nonzero(row[1:])) for row in table]
        starts, ends = self._bounds(self._firsts)
        return (ends - starts).tolist()  # type: ignore[no-any-return]

    def union(self, categories: Sequence[int]) -> int:
        """Return the number of distinct users of categories together."""
        if self._flags is not None:
            table = self._flags.reshape(-1, self._stride).view(np.uint8)
            union = np.zeros(self._stride, np.uint8)
            for category in categories:
                np.bitwise_or(union, table[category], out=union)
            return int(np.count_nonzero(union[1:]))
        firsts = self._firsts[np.array(categories, np.intp)]
        starts, ends = self._bounds(firsts)
        keys = self._settle()
        return count_distinct(
            [
                (keys[start:end] - first).astype(np.uint32)
                for start, end, first in zip(starts, ends, firsts, strict=True)
            ]
        )

    def _bounds(self, firsts: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return where the keys of categories start and end, without those of no user."""
        keys = self._settle()
        # An integer of the same type, or numpy would convert all keys.
        starts, ends = (firsts + 1).astype(keys.dtype), (firsts + self._stride).astype(keys.dtype)
        return np.searchsorted(keys, starts), np.searchsorted(keys, ends)

    def _settle(self) -> Keys:
        """Return all distinct keys, ascending."""
        if self._pending:
            keys = np.sort(np.concatenate([self._distinct, *self._pending]))
            is_first = np.ones(len(keys), np.bool_)
            np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
            self._distinct, self._pending = keys[is_first], []
            if len(self._distinct) > _MAX_KEYS:
                raise TooExpensive(
                    "pairs of a value and a user",
                    len(self._distinct),
                    _MAX_KEYS,
                    "a shorter range, or a filter",
                )
        return self._distinct
