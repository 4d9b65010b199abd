"""Numbers by the values of a property: the values of most events, all others, and none."""

from decimal import Decimal
from typing import Any

import pytest

from common.errors import TooExpensive
from repo.columns.filter_evaluation import EventFields
from repo.engine import grouped_numbers
from repo.engine.grouped_numbers import GroupedNumberCollector, NumberGroups
from repo.engine.number_collector import NumberCollector
from repo.engine.scan import Scan, Scanner
from repo.engine.timeline import Timeline
from tests.chunks import chunk_of, parsed
from tests.unit.test_timeline import ranges
from tests.where_oracle import Event

FIRST = [
    Event("u1", "view", {"n": 1, "plan": "pro"}),
    Event("u1", "view", {"n": 2, "plan": "pro"}),
    Event("ü", "view", {"n": 4, "plan": ["free", "pro", "free"]}),
    Event("ü", "view", {"n": 8}),
]
SECOND = [Event("u1", "view", {"n": 16, "plan": 5}), Event("u1", "view", {"n": 32, "plan": "free"})]


def new_collector() -> NumberCollector:
    return NumberCollector(("n",), 1, is_per_user=False, has_percentiles=False)


def grouped(limit: int, where: str | None = None) -> NumberGroups:
    collector = GroupedNumberCollector(("plan",), new_collector)
    scan = Scan(question="numbers", ranges=ranges(0, 9), where=parsed(where) if where else None)
    scanner = Scanner(scan, collector, EventFields(), None, None)
    for events in (FIRST, SECOND):
        scanner.add_parts(chunk_of(events), Timeline(scan.ranges).slices(0, 9))
    return collector.groups(limit, lambda: None)


def total(collector: NumberCollector) -> Any:
    aggregate, _ = collector.aggregates(lambda: None)
    return aggregate.sum.number


def test_values_of_most_events_come_first_and_lists_count_in_each() -> None:
    groups = grouped(10)
    assert [(value, total(numbers)) for value, numbers in groups.rows] == [
        ("pro", 7),
        ("free", 36),
        (Decimal(5), 16),
        (None, 8),
    ]
    assert (groups.other_values, total(groups.other), total(groups.missing)) == (0, 0, 8)


def test_values_beyond_the_limit_are_others() -> None:
    groups = grouped(1)
    assert [(value, total(numbers)) for value, numbers in groups.rows] == [("pro", 7)]
    assert (groups.other_values, total(groups.other), total(groups.missing)) == (3, 60, 8)


def test_only_matching_events_are_grouped() -> None:
    groups = grouped(10, "n:>=4")
    assert [(value, total(numbers)) for value, numbers in groups.rows] == [
        ("free", 36),
        (Decimal(5), 16),
        ("pro", 4),
        (None, 8),
    ]


def test_the_groups_in_memory_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_numbers, "_MAX_BYTES", 8)
    with pytest.raises(TooExpensive):
        grouped(10)
