"""Numbers and their users by range, the sums of users, and which events are skipped."""

from decimal import Decimal
from typing import Any

import pytest

from common.errors import TooExpensive
from repo.columns.filter_evaluation import EventFields
from repo.engine import number_collector, ordinals
from repo.engine.number_collector import NumberCollector, SkippedEvents
from repo.engine.scan import Scan, Scanner
from repo.engine.timeline import Timeline
from tests.chunks import chunk_of, parsed
from tests.unit.test_timeline import ranges
from tests.where_oracle import Event

EVENTS = [
    Event("u1", "view", {"n": 1, "plan": "pro"}),
    Event(None, "view", {"n": [2, 3, "x"], "plan": "pro"}),
    Event("u1", "view", {"n": "x"}),
    Event("ü", "view", {"plan": "pro"}),
    Event("ü", "view", {"n": [True, False, 0.5]}),
    Event("u1", "view", {"n": 1, "plan": "pro"}),
]
"""One event in each microsecond, from 0."""


def collected(*edges: int, is_per_user: bool = False, where: str | None = None) -> NumberCollector:
    collector = NumberCollector(
        ("n",), len(edges) - 1, is_per_user=is_per_user, has_percentiles=True
    )
    scan = Scan(
        question="numbers",
        ranges=ranges(*edges),
        where=parsed(where) if where else None,
        paths=frozenset({("n",)}),
    )
    scanner = Scanner(scan, collector, EventFields(), None, None)
    # Two chunks, the second of which has no column of numbers.
    scanner.add_parts(chunk_of(EVENTS), Timeline(scan.ranges).slices(0, 5))
    scanner.add_parts(chunk_of(EVENTS[2:3]), Timeline(scan.ranges).slices(0, 0))
    return collector


def numbers(collector: NumberCollector) -> list[Any]:
    """The count, users, sum, minimum and maximum of all ranges, and of each."""
    total, parts = collector.aggregates(lambda: None)
    return [
        (each.count, each.users, each.sum.number, each.least, each.greatest)
        for each in (total, *parts)
    ]


def test_numbers_are_collected_by_range() -> None:
    half = Decimal("0.5")
    assert numbers(collected(0, 2, 3, 6)) == [
        (5, 2, Decimal("7.5"), half, 3),
        (3, 1, 6, 1, 3),
        (0, 0, 0, None, None),
        (2, 2, Decimal("1.5"), half, 1),
    ]
    assert numbers(collected(1, 2))[0] == (2, 0, 5, 2, 3)


def test_events_are_skipped_by_range_once_for_each_type() -> None:
    total, parts = collected(0, 2, 3, 6).skipped
    assert parts == [SkippedEvents(0, 2, 0), SkippedEvents(0, 1, 0), SkippedEvents(1, 0, 1)]
    assert total == SkippedEvents(missing=1, text=3, boolean=1)


def test_only_matching_events_count() -> None:
    collector = collected(0, 6, where="plan:pro")
    assert numbers(collector)[0] == (4, 1, 7, 1, 3)
    assert collector.skipped[0] == SkippedEvents(missing=1, text=1, boolean=0)


def test_sums_of_users_leave_out_events_without_one() -> None:
    collector = collected(0, 2, 6, is_per_user=True)
    half = Decimal("0.5")
    assert numbers(collector) == [
        (2, 2, Decimal("2.5"), half, 2),
        (1, 1, 1, 1, 1),
        (2, 2, Decimal("1.5"), half, 1),
    ]
    assert collector.events_without_user == 1


def test_the_numbers_in_memory_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_collector, "MAX_BYTES", 4)
    with pytest.raises(TooExpensive):
        collected(0, 6)
    collected(0, 1)


def test_users_of_many_numbers_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordinals, "_MAX_PENDING", 4)
    assert numbers(collected(0, 6))[0][:2] == (5, 2)
    monkeypatch.setattr(ordinals, "_MAX_PENDING", 0)
    assert [each[:2] for each in numbers(collected(0, 2, 6))] == [(5, 2), (3, 1), (2, 2)]
    monkeypatch.setattr(ordinals, "MAX_BYTES", 0)
    with pytest.raises(TooExpensive, match="bytes of users"):
        collected(0, 6)
