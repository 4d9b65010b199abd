"""Ranges that chunks have events in, and the events that count in each."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np

from repo.columns.filter_evaluation import EventFields, IdSet
from repo.engine.cardinality import CardinalityCache, PartialAggregate
from repo.engine.column_counter import EventCounter, Timeline, instant, microseconds
from tests.chunks import chunk_of, parsed
from tests.where_oracle import Event
from tests.where_strategies import EVENT_NAMES, USERS
from utils.time.calendar import Range

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def at(microsecond: int) -> datetime:
    return EPOCH + timedelta(microseconds=microsecond)


def ranges(*edges: int) -> list[Range]:
    """Adjacent ranges."""
    return [Range(at(start), at(end)) for start, end in pairwise(edges)]


def slices(timeline: Timeline, first: int, last: int) -> list[tuple[list[int], list[int]]]:
    return [(list(indexes), list(edges)) for indexes, edges in timeline.slices(first, last)]


def test_instants_are_microseconds() -> None:
    assert microseconds(at(-7)) == -7
    assert instant(12) == at(12)


def test_slices_are_the_ranges_that_a_chunk_has_events_in() -> None:
    timeline = Timeline(ranges(0, 10, 20, 30))
    assert slices(timeline, 10, 19) == [([1], [10, 20])]
    assert slices(timeline, 9, 20) == [([0, 1, 2], [0, 10, 20, 30])]
    assert slices(timeline, -5, 5) == [([0], [0, 10])]
    assert slices(timeline, 25, 90) == [([2], [20, 30])]
    assert slices(timeline, 30, 90) == slices(timeline, -9, -1) == []


def test_a_gap_separates_slices_and_empty_ranges_have_none() -> None:
    timeline = Timeline([*ranges(0, 10), *ranges(12, 12), *ranges(15, 20, 20, 25)])
    assert slices(timeline, 0, 24) == [([0], [0, 10]), ([2, 4], [15, 20, 25])]
    assert slices(timeline, 10, 14) == []
    assert not timeline.overlaps(10, 14)
    assert timeline.overlaps(10, 15)


def test_a_chunk_is_within_a_range_from_its_first_to_its_last_event() -> None:
    timeline = Timeline(ranges(0, 10, 20))
    assert timeline.range_of(10, 19) == 1
    assert timeline.range_of(10, 20) is None
    assert timeline.range_of(9, 19) is None
    assert timeline.range_of(30, 40) is None


EVENTS = [
    Event("u1", "view", {"a": "x"}),
    Event(None, "view", {"a": "x"}),
    Event("u1", "5", {"a": "x"}),
    Event("ü", "view", {"a": 7}),
    Event("U1", "view", {"a": "x"}),
]
"""One event in each microsecond, from 0."""


def counted(
    edges: Sequence[int], *, names: IdSet | None = None, erased: IdSet | None = None
) -> list[tuple[int, int]]:
    """The events and users of adjacent ranges."""
    partials = [PartialAggregate() for _ in edges[1:]]
    counter = EventCounter(parsed("a:^x"), EventFields(), names, partials)
    counter.count_parts(chunk_of(EVENTS), Timeline(ranges(*edges)).slices(0, 4), erased)
    return [(events, users) for events, users in CardinalityCache().counts(partials)]


def test_events_count_in_their_range() -> None:
    assert counted([0, 5]) == [(4, 2)]
    assert counted([0, 1, 3, 4, 5]) == [(1, 1), (2, 1), (0, 0), (1, 1)]
    assert counted([2, 4]) == [(1, 1)]


def test_other_names_and_erased_users_do_not_count() -> None:
    assert counted([0, 5], names=IdSet([EVENT_NAMES.index("5") + 1])) == [(1, 1)]
    assert counted([0, 5], erased=IdSet([USERS.index("u1") + 1])) == [(2, 1)]


def test_a_whole_chunk_needs_no_times() -> None:
    chunk = chunk_of(EVENTS)
    chunk.time.resize(0, refcheck=False)
    partials = [PartialAggregate(), PartialAggregate()]
    counter = EventCounter(parsed("a:*"), EventFields(), None, partials)
    counter.count_whole(chunk, 1)
    assert [part.events for part in partials] == [0, 5]


def test_skipped_values_are_those_of_the_events_that_count_otherwise() -> None:
    counter = EventCounter(parsed("a:^x"), EventFields(), None, [PartialAggregate()])
    counter.count_parts(chunk_of(EVENTS), Timeline(ranges(0, 5)).slices(0, 4))
    assert sum(counter.skipped.values()) == 1
    counter.count_parts(chunk_of(EVENTS), Timeline(ranges(0, 3)).slices(0, 4))
    assert sum(counter.skipped.values()) == 1


def test_users_of_many_events_take_bounded_memory() -> None:
    partial = PartialAggregate()
    everyone = np.arange(1, 1_000_001, dtype=np.uint32)
    for _ in range(9):
        partial.add_events(everyone)
    assert sum(map(len, partial.ordinals)) < 5_000_001
    assert CardinalityCache().counts([partial]) == [(9_000_000, 1_000_000)]
