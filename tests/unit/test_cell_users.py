"""Lists of users are those whom the numbers of an answer count, and so they add up to them."""

import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.cells import Cell
from common.errors import InvalidParameter
from common.questions.funnel import Funnel, FunnelData, Order
from common.questions.lifecycle import STATUSES, Lifecycle
from common.questions.retention import Retention
from common.questions.stickiness import Stickiness
from repo.queries.funnel import FunnelReduction
from repo.queries.lifecycle import LifecycleReduction
from repo.queries.retention import RetentionReduction
from repo.queries.stickiness import StickinessReduction
from tests.chunks import parsed
from tests.cohort_oracle import Event, Rules
from tests.example_counts import examples
from tests.reductions import collected, listed, record
from tests.source_comparison import no_checkpoint
from tests.unit import test_cohorts
from tests.unit.test_cohorts import ENTRY, NAMES, RETURN, USERS, VALUES
from utils.time.zones import zone

START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PLANS = {"{}": "-plan:*", '{"plan": "pro"}': 'plan:"pro"', '{"plan": 5}': "plan:5..5"}
"""Properties of events, and the condition that only their value meets."""


def cell(*, row: str | None = None, where: str | None = None, **fields: object) -> Cell:
    count = fields.pop("count", None)
    texts = {name.rstrip("_"): str(value) for name, value in fields.items()}
    return Cell(
        fields=texts,
        count=str(count) if count else None,
        row=row,
        where=parsed(where) if where else None,
    )


step_events = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 2**31]),
        st.sampled_from([1, 2, 3]),
        st.integers(0, 4 * 24),
        st.sampled_from([*PLANS]),
    ),
    max_size=25,
)


def funnel_of(events: list[tuple[int, int, int, str]], **more: Any) -> tuple[FunnelReduction, Any]:
    query = Funnel(
        start=START,
        end=START + 3 * DAY,
        step=("a,b", "b,c", "a"),
        by="plan",
        interval="day",
        **more,
    ).query
    now = START + 4 * DAY
    reduction = FunnelReduction(query, query.range_at(now), now)
    records = [
        record(number, user, name, START + timedelta(hours=hour), properties)
        for number, (user, name, hour, properties) in enumerate(events)
    ]
    ids = {"a": 1, "b": 2, "c": 3}
    return reduction, collected(reduction, [records[::2], records[1::2]], ids)


@settings(max_examples=examples(600), deadline=None)
@given(
    events=step_events,
    more=st.fixed_dictionaries(
        {
            "within": st.sampled_from(["1h", "24h", "3d"]),
            "order": st.sampled_from(get_args(Order)),
            "per": st.sampled_from(["user", "session"]),
            "by_step": st.integers(1, 3),
            "limit": st.integers(1, 3),
        }
    ),
)
def test_lists_of_funnels_add_up(events: Any, more: dict[str, Any]) -> None:
    reduction, collector = funnel_of(events, **more)
    data: FunnelData = reduction.data(collector, no_checkpoint)

    def users(**parts: Any) -> list[int]:
        return listed(reduction, collector, cell(**parts))

    assert users() == users(step=1)
    assert len(users(count="open")) == data.open
    assert [len(users(count="open", start=each.day)) for each in data.series] == [
        each.open for each in data.series
    ]
    if more["per"] == "user":
        assert len(set(users())) == data.entered
    for step in data.steps:
        all_users = users(step=step.step)
        counts = (all_users, *(users(step=step.step, count=count) for count in ("dropped", "open")))
        assert tuple(map(len, counts)) == (step.users, step.dropped, step.open)
        later = users(step=step.step + 1) if step.step < 3 else all_users
        assert sorted([*later, *counts[1]]) == all_users
        by_bucket = [users(step=step.step, start=bucket.day) for bucket in data.series]
        assert [len(each) for each in by_bucket] == [
            bucket.users[step.step - 1] for bucket in data.series
        ]
        assert sorted(chain(*by_bucket)) == all_users
        wheres = [condition_on(row.value) for row in data.rows]
        by_row = [
            *(users(step=step.step, where=where) for where in wheres),
            *(users(step=step.step, row=row) for row in ("other", "missing")),
        ]
        parts: list[Any] = [*data.rows, data.other, data.missing]
        assert [len(each) for each in by_row] == [part.steps[step.step - 1].users for part in parts]
        assert sorted(chain(*by_row)) == all_users
        assert users(step=step.step, where="-plan:*") == by_row[-1]


def condition_on(value: object) -> str:
    return 'plan:"pro"' if value == "pro" else "plan:5..5"


def test_without_a_step_users_are_open_at_any_step() -> None:
    events = [(7, 1, 48, "{}"), (8, 1, 48, "{}"), (8, 2, 49, "{}"), (9, 1, 0, "{}")]
    reduction, collector = funnel_of(events, within="3d")
    assert listed(reduction, collector, cell(count="open")) == [7, 8]
    assert listed(reduction, collector, cell(step=1, count="open")) == [7]


def test_a_list_of_a_funnel_has_each_session() -> None:
    hours = [(7, 1, 0, "{}"), (7, 2, 1, "{}"), (7, 1, 48, "{}"), (8, 1, 0, "{}")]
    reduction, collector = funnel_of(hours, per="session", gap="2h", within="1h")
    assert listed(reduction, collector, cell()) == [7, 7, 8]
    assert listed(reduction, collector, cell(step=2)) == [7]
    assert listed(reduction, collector, cell(start="2025-01-03T00:00:00Z")) == [7]


@settings(max_examples=examples(600), deadline=None)
@given(world=test_cohorts.worlds(), data=st.data(), limit=st.integers(1, 4))
def test_lists_of_cohorts_are_those_of_plain_python(
    world: Any, data: st.DataObject, limit: int
) -> None:
    chunks, more = world
    now = more.pop("now")
    rules = Rules(now=now, **{**more, "tz": zone(more["tz"])})
    records, events = [], list[Event]()
    for user, name, at in (event for chunk in chunks for event in chunk):
        properties = data.draw(st.sampled_from([*VALUES]))
        number = len(events) + 1
        records.append(test_cohorts.record(number, user, name, at, properties))
        is_entry, is_return = name in ENTRY.split(","), name in RETURN.split(",")
        events.append(Event(user, at, number, is_entry, is_return, VALUES[properties]))
    has_by = data.draw(st.booleans())
    by = {"by": "plan", "limit": limit} if has_by else {}
    query = Retention(**more, **by, **{"from": ENTRY, "to": RETURN}).query
    reduction = RetentionReduction(query, query.range_at(now), now)
    collector = collected(reduction, [records[::2], records[1::2]], NAMES)
    answer = reduction.data(collector, no_checkpoint)
    past = rules.past(events)

    def users(**parts: Any) -> list[str]:
        return [USERS[ordinal] for ordinal in listed(reduction, collector, cell(**parts))]

    for number, cohort in zip(rules.begun_periods(), answer.cohorts, strict=True):
        assert users(cohort=cohort.day) == sorted(rules.entries(number, past))
        for period, counts in enumerate(cohort.cells):
            present = users(cohort=cohort.day, period=period)
            assert present == sorted(rules.present(number, period, past))
            assert len(present) == (counts.users if counts else 0)
            if has_by:
                row = data.draw(st.sampled_from(["missing", "other"]))
                shown = [test_cohorts.name_of(row.value) for row in answer.rows]
                others = {*VALUES.values()} - {None, *shown}
                values = (None,) if row == "missing" else ("nothing has this", *others)
                assert users(cohort=cohort.day, period=period, row=row) == sorted(
                    rules.present(number, period, past, values)
                )
                assert users(cohort=cohort.day, period=period, where='plan:"pro"') == sorted(
                    rules.present(number, period, past, ("pro",))
                )
    if more["entry"] != "each":
        entered = [user for cohort in answer.cohorts for user in users(cohort=cohort.day)]
        assert users() == sorted(entered)


active = st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 6)), max_size=30)
"""Users, and days from the first one of the range."""


@settings(max_examples=examples(300), deadline=None)
@given(events=active)
def test_lists_of_a_lifecycle_are_those_of_plain_python(events: list[tuple[int, int]]) -> None:
    query = Lifecycle(start=START, end=START + 5 * DAY).query
    now = START + 9 * DAY
    reduction = LifecycleReduction(query, query.range_at(now), now)
    records = [
        record(number, user, 1, START + day * DAY) for number, (user, day) in enumerate(events)
    ]
    collector = collected(reduction, [records[::2], records[1::2]], {})
    on = {day: {user for user, at in events if at == day and user} for day in range(-9, 7)}
    for day, period in enumerate(reduction.data(collector, no_checkpoint).series):
        earlier = set[int]().union(*(on[before] for before in range(-9, day)))
        expected = {
            "active": on[day],
            "new": on[day] - earlier,
            "returning": on[day] & on[day - 1],
            "resurrected": (on[day] & earlier) - on[day - 1],
            "dormant": on[day - 1] - on[day],
        }
        for status in STATUSES:
            users = listed(reduction, collector, cell(start=period.day, status=status))
            assert users == sorted(expected[status])
            assert len(users) == getattr(period, status)
        assert listed(reduction, collector, cell(start=period.day)) == sorted(on[day])


@settings(max_examples=examples(300), deadline=None)
@given(events=active, min_events=st.integers(1, 2))
def test_lists_of_stickiness_are_those_of_plain_python(
    events: list[tuple[int, int]], min_events: int
) -> None:
    query = Stickiness(start=START, end=START + 5 * DAY, min=min_events).query
    now = START + 9 * DAY
    reduction = StickinessReduction(query, query.range_at(now), now)
    records = [
        record(number, user, 1, START + day * DAY) for number, (user, day) in enumerate(events)
    ]
    collector = collected(reduction, [records[::2], records[1::2]], {})
    days = {
        user: sum(events.count((user, day)) >= min_events for day in range(5))
        for user in range(1, 6)
    }
    data = reduction.data(collector, no_checkpoint)
    for row in data.rows:
        number = row["in"]
        users = listed(reduction, collector, cell(in_=number))
        assert users == [user for user, count in days.items() if count == number]
        more = listed(reduction, collector, cell(in_=number, count="at_least"))
        assert more == [user for user, count in days.items() if count >= number]
        assert (len(users), len(more)) == (row["users"], row["at_least"])
    assert listed(reduction, collector, cell()) == [user for user, count in days.items() if count]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"step": 4}, "step must be a whole number from 1 to 3"),
        ({"step": "two"}, "step must be a whole number from 1 to 3"),
        ({"start": "2025-01-04"}, "start must be that of a bucket of the answer that has begun"),
        ({"start": "monday"}, "start must be a date"),
    ],
)
def test_a_cell_that_the_answer_does_not_have_is_refused(
    parts: dict[str, Any], message: str
) -> None:
    reduction, collector = funnel_of([])
    with pytest.raises(InvalidParameter) as error_info:
        listed(reduction, collector, cell(**parts))
    ((parameter, text),) = [(each.parameter, each.message) for each in error_info.value.faults]
    assert parameter == "cell"
    assert text.startswith(message)


def test_a_list_of_one_cohort_holds_no_other() -> None:
    days, users = 200, np.arange(1, 20_001, dtype=np.uint32)
    end = START + days * DAY
    query = Retention(start=START, end=end, entry="each", periods=1).query
    reduction = RetentionReduction(query, query.range_at(end), end)
    collector = reduction.collector()
    for index in range(days):
        collector.add_users(index, users, users)
    tracemalloc.start()
    try:
        cohort = cell(cohort="2025-01-02")
        assert len(reduction.cell_users(collector, cohort, no_checkpoint)) == len(users)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_status_of_a_user_is_one_of_the_lifecycle() -> None:
    query = Lifecycle(start=START, end=START + DAY).query
    reduction = LifecycleReduction(query, query.range_at(START + DAY), START + DAY)
    with pytest.raises(InvalidParameter) as error_info:
        listed(reduction, reduction.collector(), cell(start="2025-01-01", status="gone"))
    assert "status must be one of active, new, returning" in error_info.value.faults[0].message


@pytest.mark.parametrize(
    ("question", "parameters", "message"),
    [
        (Retention, {"cell": "period:1"}, "must have cohort"),
        (Retention, {"entry": "each"}, "must have cohort"),
        (Retention, {"cell": "plan:pro"}, "must not have a condition on plan"),
        (Retention, {"cell": "country:US", "by": "plan"}, "must not have a condition on country"),
        (Funnel, {"cell": "start:2025-01-01"}, "start"),
        (Funnel, {"cell": "@count:dropped"}, "must have step"),
        (Funnel, {"cell": "@row:other"}, "must not have @row"),
        (Funnel, {"cell": "cohort:2025-01-01"}, "must not have a condition on cohort"),
        (Lifecycle, {"cell": "status:new"}, "must have start"),
        (Stickiness, {"cell": "in:1 @count:dropped"}, "@count must be at_least"),
    ],
)
def test_cells_have_the_fields_of_the_answer(
    question: Any, parameters: dict[str, str], message: str
) -> None:
    required = {"step": ["a", "b"]} if question is Funnel else {}
    with pytest.raises(ValidationError) as error_info:
        question(start=START, end=START + DAY, list="users", **required, **parameters)
    (error,) = error_info.value.errors()
    assert message in error["msg"]
