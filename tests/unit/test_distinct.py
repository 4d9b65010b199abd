"""Distinct numbers of arrays, ascending and of the same type."""

import numpy as np
import pytest

from utils.distinct import distinct, is_first


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32])
def test_numbers_are_ascending_and_distinct(kind: type[np.integer]) -> None:
    numbers = np.array([3, 1, 3, 0, 2, 1], kind)
    found = distinct(numbers)
    assert (found.tolist(), found.dtype) == ([0, 1, 2, 3], kind)
    assert numbers.tolist() == [3, 1, 3, 0, 2, 1]
    assert distinct(numbers[:0]).tolist() == []


def test_the_first_of_equal_numbers_is_marked() -> None:
    assert is_first(np.array([7, 7, 5, 9, 9])).tolist() == [True, False, True, True, False]
