"""Unions of days, against the naive way."""

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from repo.engine.bitmaps import rolling_counts, running_counts

days_of_users = st.lists(st.sets(st.integers(0, 8) | st.integers(0, 2**32 - 1)), max_size=40)


def union(days: list[set[int]]) -> set[int]:
    return set().union(*days)


@given(days_of_users, st.integers(1, 45))
def test_rolling_counts_the_union_of_each_window(days: list[set[int]], width: int) -> None:
    sets = [BitMap(day) for day in days]
    expected = [len(union(days[max(0, at + 1 - width) : at + 1])) for at in range(len(days))]
    assert list(rolling_counts(sets, width)) == expected
    assert sets == [BitMap(day) for day in days], "a set that others share was changed"


@given(st.lists(st.tuples(st.sets(st.integers(0, 20)), st.booleans()), max_size=40))
def test_running_counts_the_union_since_the_last_first_day(
    given_days: list[tuple[set[int], bool]],
) -> None:
    sets = [BitMap(day) for day, _ in given_days]
    expected, since = [], 0
    for at, (_, is_first) in enumerate(given_days):
        since = at if is_first else since
        expected.append(len(union([day for day, _ in given_days[since : at + 1]])))
    assert list(running_counts(sets, (is_first for _, is_first in given_days))) == expected
    assert sets == [BitMap(day) for day, _ in given_days], "a set that others share was changed"
