"""Users of several rows together, against plain sets, however often they are asked for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from repo.engine.cardinality import CardinalityCache, Count, PartialAggregate, merge
from repo.engine.span_cache import Row

users = st.sets(st.integers(0, 12), max_size=5)
pools = st.lists(users, min_size=1, max_size=6)
"""Rows that are remembered: tallies share them."""
picks = st.lists(st.tuples(st.lists(st.integers(0, 5), max_size=4), st.lists(users, max_size=2)))


def partial_aggregates(
    pool: list[set[int]], picked: list[tuple[list[int], list[set[int]]]]
) -> list[PartialAggregate]:
    aggregates = []
    for indexes, loose in picked:
        tally = PartialAggregate()
        for index in indexes:
            mark = index % len(pool) + 1
            tally.add(Row(2, BitMap(pool[mark - 1]), mark))
        for each in loose:
            tally.add(Row(3, BitMap(each)))
        aggregates.append(tally)
    return aggregates


def sets_of(pool: list[set[int]], picked: list[tuple[list[int], list[set[int]]]]) -> list[set[int]]:
    return [
        set().union(*(pool[index % len(pool)] for index in indexes), *loose)
        for indexes, loose in picked
    ]


@given(pools, st.lists(picks, max_size=4))
def test_counts_are_those_of_the_union(
    pool: list[set[int]], asked: list[list[tuple[list[int], list[set[int]]]]]
) -> None:
    unions = CardinalityCache()
    for picked in asked * 2:
        aggregates, sets = partial_aggregates(pool, picked), sets_of(pool, picked)
        events = [2 * len(indexes) + 3 * len(loose) for indexes, loose in picked]
        expected = [sum(events), *events], [len(set().union(*sets)), *map(len, sets)]
        counts = unions.counts([merge(aggregates), *aggregates])
        assert counts == list(map(Count, *expected))
        assert [set(unions.users(tally)) for tally in aggregates] == sets


@given(pools, st.lists(picks, max_size=4), st.integers(1, 5), st.lists(st.booleans()))
def test_windows_are_those_of_the_union(
    pool: list[set[int]],
    asked: list[list[tuple[list[int], list[set[int]]]]],
    width: int,
    begins: list[bool],
) -> None:
    unions = CardinalityCache()
    for picked in asked * 2:
        aggregates, sets = partial_aggregates(pool, picked), sets_of(pool, picked)
        rolled = [len(set().union(*sets[max(0, n + 1 - width) : n + 1])) for n in range(len(sets))]
        assert unions.rolling(aggregates, width) == rolled
        flags = (begins + [False] * len(aggregates))[: len(aggregates)]
        since = [max([0, *(m for m in range(n + 1) if flags[m])]) for n in range(len(aggregates))]
        ran = [len(set().union(*sets[first : n + 1])) for n, first in enumerate(since)]
        assert unions.running(aggregates, flags) == ran


def test_what_is_kept_is_bounded() -> None:
    unions = CardinalityCache()
    rows = [Row(1, BitMap([n]), n + 1) for n in range(30_000)]
    for one, two in pairwise(rows):
        assert unions.counts([PartialAggregate(2, [one, two])]) == [Count(2, 2)]
    assert len(unions._counts) <= 20_000
