"""retention: cohorts by their entry, cells of the calendar and of 24 hours, invalid parameters."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.database_clock import set_clock
from tests.events import insert
from tests.problems import assert_problem

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)  # a Monday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
RANGE: dict[str, Any] = {"start": "2025-03-10", "end": "2025-03-12", "periods": 3}


def data(service: httpx.Client, **parameters: object) -> Any:
    return ask(service, "retention", **{**RANGE, **parameters})["data"]


def cells(service: httpx.Client, **parameters: object) -> list[list[int]]:
    """For each cohort the number of its users, and those of each cell."""
    return [
        [cohort["users"], *(cell["users"] for cell in cohort["cells"])]
        for cohort in data(service, **parameters)["cohorts"]
    ]


@pytest.fixture
def users(conn: connection) -> None:
    """Four users: `a` signs up on Monday, `b` on Tuesday, `old` on Sunday, and `none` never."""
    insert(
        conn,
        ("a", "sign_up", NOON),
        ("a", "view", NOON + DAY),
        ("a", "view", NOON + 2 * DAY + HOUR),
        ("b", "view", NOON),
        ("b", "sign_up", NOON + DAY),
        ("b", "sign_up", NOON + DAY + HOUR),
        ("old", "sign_up", NOON - DAY),
        ("old", "sign_up", NOON),
        ("old", "view", NOON + 2 * DAY),
        ("none", "view", NOON),
        ("", "sign_up", NOON),
    )


@pytest.mark.usefixtures("users")
def test_users_enter_with_their_first_event_of_all_time(service: httpx.Client) -> None:
    (monday, tuesday) = data(service, **{"from": "sign_up"})["cohorts"]
    assert monday == {
        "day": "2025-03-10",
        "start": "2025-03-10T00:00:00Z",
        "end": "2025-03-11T00:00:00Z",
        "cut": False,
        "users": 1,
        "cells": [{"users": 1, "of": 1, "share": 1, "partial": False}] * 3,
    }
    assert [cell["users"] for cell in tuesday["cells"]] == [1, 0, 0]


@pytest.mark.usefixtures("users")
def test_entries_without_a_user_are_reported(service: httpx.Client) -> None:
    for clock in ("calendar", "24h"):
        meta = ask(service, "retention", **RANGE, clock=clock, **{"from": "sign_up"})["meta"]
        assert meta["events_without_user"] == 1


@pytest.mark.usefixtures("users")
def test_the_total_is_that_of_the_columns(service: httpx.Client) -> None:
    assert data(service, **{"from": "sign_up"})["total"] == [
        {"users": 2, "of": 2, "share": 1},
        {"users": 1, "of": 2, "share": 0.5},
        {"users": 1, "of": 2, "share": 0.5},
    ]


@pytest.mark.usefixtures("users")
def test_users_may_enter_with_the_first_event_of_the_range(service: httpx.Client) -> None:
    parameters = {"from": "sign_up", "entry": "first_in_range"}
    # Monday: a and old, who view two days later; Tuesday: b.
    assert cells(service, **parameters) == [[2, 2, 1, 2], [1, 1, 0, 0]]


@pytest.mark.usefixtures("users")
def test_users_may_enter_in_each_period(service: httpx.Client) -> None:
    # Monday: a, b, old, none; Tuesday: a, b; Wednesday: a, old.
    assert cells(service, entry="each") == [[4, 4, 2, 2], [2, 2, 1, 0]]
    # Only the day of the sign-up, not the day of another event.
    assert cells(service, entry="each", **{"from": "sign_up"}) == [[2, 2, 1, 2], [1, 1, 0, 0]]


@pytest.mark.usefixtures("users")
def test_users_return_with_other_events(service: httpx.Client) -> None:
    # b views on the day before the sign-up alone.
    assert cells(service, **{"from": "sign_up", "to": "view"}) == [[1, 0, 1, 1], [1, 0, 0, 0]]


@pytest.mark.usefixtures("users")
def test_later_periods_may_count(service: httpx.Client) -> None:
    parameters = {"from": "sign_up", "count": "on_or_after", "entry": "first_in_range"}
    assert cells(service, **parameters) == [[2, 2, 2, 2], [1, 1, 0, 0]]
    (monday, _) = data(service, **parameters)["cohorts"]
    assert {cell["open_ended"] for cell in monday["cells"]} == {True}


@pytest.mark.usefixtures("users")
def test_periods_may_be_24_hours_from_the_entry(service: httpx.Client) -> None:
    # a returns after 24 hours, and after 49; b after one hour, with another sign-up.
    assert cells(service, clock="24h", **{"from": "sign_up"}) == [[1, 0, 1, 1], [1, 1, 0, 0]]


@pytest.mark.usefixtures("users")
def test_conditions_limit_entries_and_returns(service: httpx.Client, conn: connection) -> None:
    insert(
        conn, ("c", "sign_up", NOON, {"plan": "pro"}), ("c", "view", NOON + DAY, {"plan": "pro"})
    )
    assert cells(service, **{"from": "sign_up plan:pro"}) == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert cells(service, **{"from": "sign_up", "to": "view plan:pro"})[0] == [2, 0, 1, 0]
    assert cells(service, where="plan:pro")[0] == [1, 1, 1, 0]


def test_users_are_grouped_by_a_value_of_their_entry(
    service: httpx.Client, conn: connection
) -> None:
    insert(
        conn,
        *[(user, "sign_up", NOON, {"plan": plan}) for user, plan in {"a": "pro", "b": 5}.items()],
        *[(user, "view", NOON + DAY, {"plan": "other"}) for user in ("a", "b", "c", "d")],
        ("c", "sign_up", NOON, {"plan": ["pro", "free"]}),
        ("d", "sign_up", NOON),
        ("e", "sign_up", NOON, {"plan": "free"}),
    )
    parameters: dict[str, Any] = {"from": "sign_up", "by": "plan", "limit": 2, "periods": 2}
    parameters["end"] = "2025-03-11"
    answer = data(service, **parameters)
    parts = [*answer["rows"], answer["other"], answer["missing"]]
    assert [
        (part.get("value"), part["users"], [cell["users"] for cell in part["total"]])
        for part in parts
    ] == [("pro", 2, [2, 2]), (5, 1, [1, 1]), (None, 1, [1, 0]), (None, 1, [1, 1])]
    assert [cell["users"] for cell in answer["total"]] == [5, 4]
    response = service.get("/analytics/retention", params={**RANGE, **parameters, "format": "csv"})
    rows = [line.split(",") for line in response.text.splitlines()]
    assert [(row[0], row[1], row[6], row[7], row[8]) for row in rows] == [
        ("value", "type", "cohort_users", "period", "users"),
        ("pro", "text", "2", "0", "2"),
        ("pro", "text", "2", "1", "2"),
        ("5", "number", "1", "0", "1"),
        ("5", "number", "1", "1", "1"),
        ("(other)", "other", "1", "0", "1"),
        ("(other)", "other", "1", "1", "0"),
        ("", "missing", "1", "0", "1"),
        ("", "missing", "1", "1", "1"),
    ]


def test_weeks_begin_on_the_day_that_is_asked_for(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "view", NOON), ("a", "view", NOON + 6 * DAY))  # Monday and Sunday
    parameters = {"end": "2025-03-17", "interval": "week", "periods": 2}
    assert cells(service, **parameters) == [[1, 1, 0]]
    cohorts = data(service, **parameters, week_start="sunday")["cohorts"]
    assert [(c["day"], c["cut"], c["users"]) for c in cohorts] == [
        ("2025-03-10", True, 1),
        ("2025-03-16", True, 0),
    ]
    assert [cell["users"] for cell in cohorts[0]["cells"]] == [1, 1]


def test_cells_that_have_not_begun_are_null(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "view", NOON - DAY), ("a", "view", NOON))
    set_clock(conn, NOON + HOUR)
    answer = ask(service, "retention", start="2025-03-09", end="2025-03-13", periods=2)
    sunday, monday = answer["data"]["cohorts"]
    assert sunday["cells"] == [
        {"users": 1, "of": 1, "share": 1, "partial": False},
        {"users": 1, "of": 1, "share": 1, "partial": True},
    ]
    assert monday["cells"] == [{"users": 0, "of": 0, "share": None, "partial": True}, None]
    assert answer["data"]["total"] == [
        {"users": 1, "of": 1, "share": 1},
        {"users": 0, "of": 0, "share": None},
    ]
    assert answer["meta"]["complete_until"] == answer["meta"]["computed_at"]
    rows = service.get(
        "/analytics/retention",
        params={"start": "2025-03-09", "end": "2025-03-13", "periods": 2, "format": "csv"},
    ).text.splitlines()
    assert rows[0] == "day,start,end,cut,cohort_users,period,users,of,share,partial"
    assert [row.split(",", 4)[4] for row in rows[1:]] == [
        "1,0,1,1,1.0,false",
        "1,1,1,1,1.0,true",
        "0,0,0,0,,true",
    ]


def test_windows_that_are_not_over_do_not_count(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "view", NOON), ("a", "view", NOON + HOUR))
    insert(conn, ("b", "view", NOON + 2 * HOUR), ("b", "view", NOON + 3 * HOUR))
    set_clock(conn, NOON + DAY + HOUR)
    (monday,) = data(service, clock="24h", periods=2, end="2025-03-11")["cohorts"]
    assert monday["cells"] == [
        {"users": 1, "of": 1, "share": 1, "partial": True},
        {"users": 0, "of": 0, "share": None, "partial": True},
    ]


def test_the_definition_has_the_parameters(service: httpx.Client) -> None:
    def definition(**parameters: object) -> str:
        return str(ask(service, "retention", **{**RANGE, **parameters})["meta"]["definition"])

    assert definition(**{"from": "sign_up"}) == (
        "Users by the day of UTC of their first event of the selection `sign_up` of all time, if "
        "that is from 2025-03-10T00:00:00Z up to but excluding 2025-03-12T00:00:00Z, and how many "
        "of them have an event in that day, or in one of the 2 that follow."
    )
    assert definition(entry="each", clock="24h", count="on_or_after", where="plan:pro") == (
        "Users by each day of UTC in which they have an event that match plan:pro, if that is from "
        "2025-03-10T00:00:00Z up to but excluding 2025-03-12T00:00:00Z, and how many of them have "
        "another event that match plan:pro within 24 hours from then or later, or in one of the 2 "
        "periods of 24 hours that follow or later."
    )


@pytest.mark.parametrize(
    ("parameters", "name", "message"),
    [
        ({"clock": "24h", "interval": "month"}, "interval", "must be day or week with clock=24h"),
        ({"periods": 0}, "periods", "must be at least 1"),
        ({"interval": "hour"}, "interval", "'day', 'week' or 'month'"),
        ({"from": "two words"}, "from", "quote"),
        (
            {"start": "2020-01-01", "periods": 300},
            "periods",
            "may give more than 100000 cells over this range; use fewer periods, a longer interval "
            "or a shorter range",
        ),
    ],
)
def test_invalid_parameters_are_named(
    service: httpx.Client, parameters: dict[str, Any], name: str, message: str
) -> None:
    response = service.get("/analytics/retention", params={**RANGE, **parameters})
    assert_problem(response, 422, "invalid-parameter", name)
    assert message in response.json()["errors"][0]["message"]
