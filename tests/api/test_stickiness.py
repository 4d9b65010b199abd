"""stickiness: in how many periods users were active."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.database_clock import set_clock
from tests.events import insert

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
RANGE = {"start": "2025-03-10", "end": "2025-03-13"}


def insert_users(conn: connection) -> None:
    """`a` is active on three days, twice on the first one; `b` and `c` on one."""
    insert(
        conn,
        *[("a", "view", NOON + number * DAY) for number in (0, 0, 1, 2)],
        ("b", "view", NOON + DAY),
        ("c", "view", NOON + 2 * DAY),
        ("c", "view", NOON + 2 * DAY),
        ("c", "view", NOON + 5 * DAY),
        ("", "view", NOON),
    )


def rows(service: httpx.Client, **parameters: object) -> Any:
    data = ask(service, "stickiness", **{**RANGE, **parameters})["data"]
    return [(row["in"], row["users"], row["at_least"]) for row in data["rows"]]


def test_users_are_counted_by_their_number_of_days(service: httpx.Client, conn: connection) -> None:
    insert_users(conn)
    assert ask(service, "stickiness", **RANGE)["data"] == {
        "periods": 3,
        "partial_periods": 0,
        "users": 3,
        "rows": [
            {"in": 1, "users": 2, "at_least": 3},
            {"in": 2, "users": 0, "at_least": 1},
            {"in": 3, "users": 1, "at_least": 1},
        ],
    }


def test_a_period_may_need_more_events(service: httpx.Client, conn: connection) -> None:
    insert_users(conn)
    assert rows(service, min=2) == [(1, 2, 2), (2, 0, 0), (3, 0, 0)]
    assert rows(service, min=3) == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]
    assert ask(service, "stickiness", **RANGE)["meta"]["events_without_user"] == 1
    answer = ask(service, "stickiness", **RANGE, min=2)
    assert answer["meta"]["events_without_user"] == 1
    assert answer["meta"]["definition"] == (
        "Users by the number of days of UTC from 2025-03-10T00:00:00Z up to but excluding "
        "2025-03-13T00:00:00Z in which they have at least 2 events."
    )


def test_rows_are_rows_of_csv(service: httpx.Client, conn: connection) -> None:
    insert_users(conn)
    response = service.get("/analytics/stickiness", params={**RANGE, "format": "csv"})
    assert response.text.splitlines() == ["in,users,at_least", "1,2,3", "2,0,1", "3,1,1"]


def test_only_periods_that_have_begun_count(service: httpx.Client, conn: connection) -> None:
    insert_users(conn)
    set_clock(conn, NOON + DAY + timedelta(hours=1))
    data = ask(service, "stickiness", **RANGE)["data"]
    assert (data["periods"], data["partial_periods"], data["users"]) == (2, 1, 2)
