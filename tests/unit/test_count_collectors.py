"""Events and users by range, and by event name."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TooExpensive
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.filter_evaluation import EventFields
from repo.engine import ordinals
from repo.engine.cardinality import Aggregates, CardinalityCache, PartialAggregate, merge
from repo.engine.count_collectors import (
    CountCollector,
    NameCollector,
    TotalCollector,
    UserCollector,
)
from repo.engine.ordinals import UserMemory
from repo.engine.scan import Collector, Scan, Scanner
from repo.engine.timeline import Timeline
from tests.chunks import chunk_of, parsed
from tests.example_counts import examples
from tests.unit.test_timeline import ranges
from tests.where_oracle import Event
from tests.where_strategies import EVENT_NAMES

VIEW, FIVE = (EVENT_NAMES.index(name) + 1 for name in ("view", "5"))
NAMES = {VIEW: "view", FIVE: "5"}
EVENTS = [
    Event("u1", "view", {}),
    Event(None, "view", {}),
    Event("u1", "5", {}),
    Event("ü", "5", {}),
    Event("u1", "view", {}),
]
"""One event in each microsecond, from 0."""


def collect(collector: Collector, *edges: int) -> None:
    scan = Scan(question="event_counts", ranges=ranges(*edges))
    scanner = Scanner(scan, collector, EventFields(), None, None)
    scanner.add_parts(chunk_of(EVENTS), Timeline(scan.ranges).slices(0, 4))


def counts(partials: Sequence[PartialAggregate]) -> list[tuple[int, int]]:
    return [(events, users) for events, users in CardinalityCache().counts(partials)]


def counted(*edges: int) -> list[tuple[int, int]]:
    """The events and users of adjacent ranges."""
    collector = CountCollector(len(edges) - 1)
    collect(collector, *edges)
    return counts(collector.partials)


def test_users_count_once_and_events_without_a_user_do_not() -> None:
    collector = UserCollector()
    for edges in ((0, 2), (1, 5)):
        collect(collector, *edges)
    assert collector.users().tolist() == [1, 4]
    assert UserCollector().users().tolist() == []


def by_name(limit: int | None, *edges: int) -> Aggregates:
    collector = NameCollector([{} for _ in edges[1:]])
    collect(collector, *edges)
    return collector.aggregates(NAMES, limit)


def test_events_count_in_their_range() -> None:
    assert counted(0, 5) == [(5, 2)]
    assert counted(0, 1, 3, 4, 5) == [(1, 1), (2, 1), (1, 1), (1, 1)]
    assert counted(2, 4) == [(2, 2)]


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8), max_size=4))
def test_the_events_of_one_range_count(chunks: list[list[tuple[int, bool]]]) -> None:
    """Whether few, most or all events of a chunk match."""
    collector = TotalCollector()
    scan = Scan(question="event_counts", ranges=ranges(0, 10), where=parsed("a:true"))
    scanner = Scanner(scan, collector, EventFields(), None, None)
    for events in chunks:
        scanner.add_whole(
            build_chunk(
                [
                    EventRecord(0, user, 1, 1, bytes(16), f'{{"a": {str(is_match).lower()}}}')
                    for user, is_match in events
                ]
            ),
            0,
        )
    matching = [user for events in chunks for user, is_match in events if is_match]
    aggregates = collector.aggregates()
    (count,) = aggregates.cardinalities.counts(aggregates.totals)
    assert count == (len(matching), len(set(matching) - {0}))


def test_events_count_by_name_most_frequent_first() -> None:
    (groups,) = by_name(None, 0, 5).ranges
    assert list(groups.named) == ["view", "5"]
    assert counts([*groups.named.values(), groups.others]) == [(3, 1), (2, 2), (0, 0)]


def test_names_beyond_the_limit_are_others_and_ties_are_ordered_by_name() -> None:
    aggregates = by_name(1, 1, 5)
    (groups,) = aggregates.ranges
    assert list(groups.named) == ["5"]
    assert counts([groups.named["5"], groups.others, *aggregates.totals]) == [
        (2, 2),
        (2, 1),
        (4, 2),
    ]
    assert aggregates.other_groups == 1


def test_names_count_by_range() -> None:
    first, second = by_name(None, 0, 2, 5).ranges
    assert counts(list(first.named.values())) == [(2, 1)]
    assert list(second.named) == ["view", "5"]
    assert counts(list(second.named.values())) == [(1, 1), (2, 2)]


def test_ids_of_names_may_be_large() -> None:
    events = [Event("u1", "view", {}), Event("ü", "view", {})]
    chunk = chunk_of(events)
    chunk.name[:] = (70_000, 70_000 + 2**16)
    collector = NameCollector([{}])
    scan = Scan(question="top_events", ranges=ranges(0, 5))
    scanner = Scanner(scan, collector, EventFields(), None, None)
    scanner.add_whole(chunk, 0)
    assert collector.partials[0].keys() == {70_000, 70_000 + 2**16}


def test_users_of_many_events_take_bounded_memory() -> None:
    partials = [PartialAggregate(), PartialAggregate()]
    everyone = np.arange(1, 1_000_001, dtype=np.uint32)
    memory = UserMemory()
    for number in range(10):
        partials[number % 2].add_events(everyone)
        memory.take(len(everyone), partials)
        assert sum(len(part) for each in partials for part in each.ordinals) <= 4 * 2**20
    assert counts(partials) == [(5_000_000, 1_000_000)] * 2
    assert counts([merge(partials)]) == [(10_000_000, 1_000_000)]


@pytest.mark.parametrize("pending", [0, 2, 100])
def test_users_that_became_sets_count_once(monkeypatch: pytest.MonkeyPatch, pending: int) -> None:
    monkeypatch.setattr(ordinals, "_MAX_PENDING", pending)
    collector = CountCollector(2)
    for _ in range(2):
        collect(collector, 0, 2, 5)
    assert counts([*collector.partials, merge(collector.partials)]) == [(4, 1), (6, 2), (10, 2)]
    (groups,) = by_name(None, 0, 5).ranges
    assert counts(list(groups.named.values())) == [(3, 1), (2, 2)]


def test_users_of_too_many_ranges_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordinals, "_MAX_PENDING", 2)
    monkeypatch.setattr(ordinals, "MAX_BYTES", 0)
    with pytest.raises(TooExpensive, match="bytes of users"):
        counted(0, 5)
    with pytest.raises(TooExpensive, match="bytes of users"):
        by_name(None, 0, 5)
