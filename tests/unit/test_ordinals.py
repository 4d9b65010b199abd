"""Distinct users of arrays of ordinals, counted by sorting and by flags."""

import numpy as np
import pytest
from pyroaring import BitMap

from repo.engine.ordinals import Ordinals, count_distinct, distinct_ordinals, group_by_user, set_of

# The highest ordinal decides whether arrays are sorted or flags are set.
MILLIONS, DENSE = 3_000_000, 9


def ordinals(*numbers: int) -> Ordinals:
    return np.array(numbers, np.uint32)


@pytest.mark.parametrize("highest", [DENSE, MILLIONS, 2**32 - 1])
def test_users_count_once_and_events_without_a_user_do_not(highest: int) -> None:
    parts = [ordinals(7, 0, highest, 7), ordinals(), ordinals(highest, 2)]
    assert count_distinct(parts) == 3
    assert distinct_ordinals(parts).tolist() == [2, 7, highest]


def test_many_users_of_millions_are_distinct() -> None:
    everyone = np.arange(1, MILLIONS + 1, dtype=np.uint32)
    assert count_distinct([everyone, everyone[::-1]]) == MILLIONS


def test_no_events_have_no_users() -> None:
    assert count_distinct([]) == count_distinct([ordinals()]) == count_distinct([ordinals(0)]) == 0
    assert distinct_ordinals([]).tolist() == []


def test_a_set_has_the_distinct_users() -> None:
    assert set_of(ordinals(5, 0, MILLIONS, 5)) == BitMap([5, MILLIONS])


@pytest.mark.parametrize("last", [5, 2**31])
def test_ordinals_are_grouped_by_user(last: int) -> None:
    """With a table of all possible users, and without if they are few among many."""
    parts = [np.array(part, np.uint32) for part in ([3, last, 3], [], [1, last])]
    users, groups = group_by_user(parts)
    assert users.tolist() == [1, 3, last]
    assert [part.tolist() for part in groups] == [[1, 2, 1], [], [0, 2]]
