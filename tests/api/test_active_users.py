"""active-users: windows that roll, windows by the calendar, and no point in the future."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.events import insert

MONDAY = datetime(2025, 3, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def series(service: httpx.Client, **parameters: object) -> Any:
    return ask(service, "active-users", **parameters)["data"]["series"]


def test_windows_roll_and_calendar_windows_begin_anew(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("a", "x", MONDAY), ("b", "x", MONDAY - DAY), ("a", "y", MONDAY + DAY))
    days = series(service, start="2025-03-30", end="2025-04-02", window=2)
    assert [(d["dau"], d["active"], d["wau"], d["mau"]) for d in days] == [
        (1, 1, 1, 1),  # Sunday: b
        (1, 2, 2, 2),  # Monday: a, and b the day before
        (1, 1, 2, 2),  # Tuesday, the first of April: a again, counted once
    ]
    assert [(d["calendar_week"], d["calendar_month"]) for d in days] == [(1, 1), (1, 2), (1, 1)]
    assert [d["stickiness"] for d in days] == [1, 0.5, 0.5]


def test_users_are_new_on_the_day_of_their_first_event(
    service: httpx.Client, conn: connection
) -> None:
    insert(
        conn,
        ("old", "x", MONDAY - 900 * DAY),
        ("old", "x", MONDAY),
        ("a", "y", MONDAY - DAY),
        ("a", "x", MONDAY),
        ("b", "x", MONDAY, {"plan": "pro"}),
        ("b", "x", MONDAY + DAY),
        ("", "x", MONDAY),
    )

    def counts(**more: str) -> list[tuple[int, int, int]]:
        days = series(service, start="2025-03-31", end="2025-04-02", **more)
        return [(day["dau"], day["new"], day["existing"]) for day in days]

    assert counts() == [(3, 1, 2), (1, 0, 1)]
    assert counts(event="x") == [(3, 2, 1), (1, 0, 1)]
    assert counts(where="plan:pro") == [(1, 1, 0), (0, 0, 0)]


def test_the_week_begins_when_asked(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "x", MONDAY), ("b", "x", MONDAY - DAY))
    params = {"start": "2025-03-31", "end": "2025-04-01"}
    assert [d["calendar_week"] for d in series(service, **params)] == [1]
    assert [d["calendar_week"] for d in series(service, **params, week_start="sunday")] == [2]


def test_nobody_active_has_no_stickiness(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("", "x", MONDAY))
    (day,) = series(service, start="2025-03-31", end="2025-04-01")
    assert (day["mau"], day["stickiness"]) == (0, None)


def test_there_is_no_point_in_the_future(service: httpx.Client, conn: connection) -> None:
    now = datetime.now(UTC)
    insert(conn, ("a", "x", now))
    params = {"start": now.date() - DAY, "end": now.date() + 500 * DAY}
    answer = ask(service, "active-users", **params)
    last = answer["data"]["series"][-1]
    assert last["date"] == answer["meta"]["computed_at"][:10]
    assert (last["partial"], last["mau"]) == (True, 1)


def test_windows_are_named(service: httpx.Client) -> None:
    assert ask(service, "active-users", last="1d", window=14)["meta"]["windows"] == {
        "dau": "rolling 1 day",
        "wau": "rolling 7 days",
        "mau": "rolling 30 days",
        "active": "rolling 14 days",
        "calendar_week": "calendar week from monday, up to the day",
        "calendar_month": "calendar month, up to the day",
    }
