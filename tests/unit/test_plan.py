"""Plans are compared with the limits before anything is read."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from common.errors import EventsDropped, TooExpensive
from repo.engine.cost import Cost
from repo.engine.plan import Plan

PLAN = Plan(
    source="rollups",
    cost=None,
    allowed_events=10,
)
HORIZON = datetime(2025, 1, 1, tzinfo=UTC)


def test_a_plan_whose_cost_was_not_looked_up_is_within_the_limits() -> None:
    PLAN.check()
    assert PLAN.weight == 0


def test_a_plan_that_reads_too_many_events_is_refused() -> None:
    replace(PLAN, cost=Cost(events=10)).check()
    with pytest.raises(TooExpensive, match=r"would read 11 events; the limit is 10"):
        replace(PLAN, cost=Cost(events=11)).check()


def test_a_plan_that_needs_dropped_events_is_refused_before_its_cost() -> None:
    dropped = replace(PLAN, cost=Cost(events=11), horizon=HORIZON, alternatives="later ranges")
    with pytest.raises(TooExpensive):
        dropped.check()
    with pytest.raises(EventsDropped, match="later ranges"):
        replace(dropped, needs_dropped=True).check()


def test_plans_are_compared_by_what_they_read() -> None:
    cost = Cost(rows=3, bytes=1_000, events=4, column_rows=5_000)
    assert replace(PLAN, cost=cost).weight == 17
