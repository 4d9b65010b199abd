"""Costs of queries: sums, limits, and the cost of windows."""

import pytest

from common.errors import TooExpensive
from repo.engine.cost import MAX_BYTES, MAX_ROWS, Cost, windows_cost


def test_costs_add_up() -> None:
    assert Cost(1, 20, 300) + Cost(4, 50, 600) == Cost(rows=5, bytes=70, events=900)


def test_a_cost_at_the_limits_is_allowed() -> None:
    Cost(MAX_ROWS, MAX_BYTES, 7).check(allowed_events=7)


@pytest.mark.parametrize(
    ("cost", "what"),
    [
        (Cost(rows=500_001), "rows of rollups"),
        (Cost(bytes=268_435_457), "bytes of rollups"),
        (Cost(events=8), "events"),
        (Cost(column_rows=500_000_001), "rows of columns"),
    ],
)
def test_a_cost_above_a_limit_is_refused_by_its_name(cost: Cost, what: str) -> None:
    with pytest.raises(TooExpensive, match=what):
        cost.check(allowed_events=7)


def test_small_sets_cost_nine_joins_a_day() -> None:
    assert windows_cost(10, 30, read_bytes=100, users=1_000) == Cost(rows=90, bytes=3_000)


def test_large_sets_cost_joins_by_their_size() -> None:
    cost = windows_cost(1, 30, read_bytes=65_537, users=10_000_000)
    assert cost == Cost(rows=18, bytes=1_966_110)
