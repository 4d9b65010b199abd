"""Users of several rows together, against plain sets, however often they are asked for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from repo.rollups.memory import Row
from repo.rollups.unions import Tally, Unions

users = st.sets(st.integers(0, 12), max_size=5)
pools = st.lists(users, min_size=1, max_size=6)
"""Rows that are remembered: tallies share them."""
picks = st.lists(st.tuples(st.lists(st.integers(0, 5), max_size=4), st.lists(users, max_size=2)))


def tallies(pool: list[set[int]], picked: list[tuple[list[int], list[set[int]]]]) -> list[Tally]:
    made = []
    for places, loose in picked:
        tally = Tally()
        for place in places:
            mark = place % len(pool) + 1
            tally.add(Row(2, BitMap(pool[mark - 1]), mark))
        for each in loose:
            tally.add(Row(3, BitMap(each)))
        made.append(tally)
    return made


def sets_of(pool: list[set[int]], picked: list[tuple[list[int], list[set[int]]]]) -> list[set[int]]:
    return [
        set().union(*(pool[place % len(pool)] for place in places), *loose)
        for places, loose in picked
    ]


@given(pools, st.lists(picks, max_size=4))
def test_counts_are_those_of_the_union(
    pool: list[set[int]], asked: list[list[tuple[list[int], list[set[int]]]]]
) -> None:
    unions = Unions()
    for picked in asked * 2:
        made, sets = tallies(pool, picked), sets_of(pool, picked)
        assert unions.count(made) == len(set().union(*sets))
        assert [unions.count([tally]) for tally in made] == [len(each) for each in sets]
        assert [set(unions.users(tally)) for tally in made] == sets
        events = [2 * len(places) + 3 * len(loose) for places, loose in picked]
        assert [tally.events for tally in made] == events


@given(pools, st.lists(picks, max_size=4), st.integers(1, 5), st.lists(st.booleans()))
def test_windows_are_those_of_the_union(
    pool: list[set[int]],
    asked: list[list[tuple[list[int], list[set[int]]]]],
    width: int,
    begins: list[bool],
) -> None:
    unions = Unions()
    for picked in asked * 2:
        made, sets = tallies(pool, picked), sets_of(pool, picked)
        rolled = [len(set().union(*sets[max(0, n + 1 - width) : n + 1])) for n in range(len(sets))]
        assert unions.rolling(made, width) == rolled
        flags = (begins + [False] * len(made))[: len(made)]
        since = [max([0, *(m for m in range(n + 1) if flags[m])]) for n in range(len(made))]
        ran = [len(set().union(*sets[first : n + 1])) for n, first in enumerate(since)]
        assert unions.running(made, flags) == ran


def test_what_is_kept_is_bounded() -> None:
    unions = Unions()
    rows = [Row(1, BitMap([n]), n + 1) for n in range(30_000)]
    for one, two in pairwise(rows):
        assert unions.count([Tally(2, [one, two])]) == 2
    assert len(unions._numbers) <= 20_000
