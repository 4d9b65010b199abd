"""Ranges that chunks have events in."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from repo.engine.timeline import Timeline, instant, microseconds, united
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


def test_ranges_that_touch_or_overlap_are_one() -> None:
    parts = [*ranges(20, 30), *ranges(0, 5, 10), *ranges(3, 3), *ranges(22, 25), *ranges(29, 40)]
    assert united(parts) == [*ranges(0, 10), *ranges(20, 40)]
    assert united(ranges(7, 7)) == united([]) == []
