"""Distinct numbers of arrays."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

N = TypeVar("N", bound=NDArray[Any])


def distinct(numbers: N) -> N:
    """Return the distinct numbers, ascending."""
    # `np.unique` finds them by their hashes, which takes ten times as long where most are distinct.
    ascending = np.sort(numbers)
    return ascending[is_first(ascending)]  # type: ignore[return-value]


def is_first(ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which numbers differ from the one before; equal ones must be adjacent."""
    first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return first
