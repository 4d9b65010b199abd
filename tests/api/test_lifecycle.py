"""lifecycle: what becomes of users from one period to the next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.database_clock import set_clock
from tests.events import insert

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
COUNTS = ("active", "new", "returning", "resurrected", "dormant")


def counts(answer: Any) -> list[list[int]]:
    return [[period[name] for name in COUNTS] for period in answer["data"]["series"]]


def test_users_are_compared_with_the_period_before(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("old", "view", NOON - 9 * DAY),
        ("old", "view", NOON + DAY),
        ("a", "view", NOON - DAY),
        ("a", "view", NOON),
        ("a", "view", NOON + 2 * DAY),
        ("b", "view", NOON),
        ("b", "view", NOON),
        ("", "view", NOON),
        ("", "view", NOON - DAY),
    )
    answer = ask(service, "lifecycle", start="2025-03-10", end="2025-03-13")
    assert answer["meta"]["events_without_user"] == 1
    assert counts(answer) == [
        [2, 1, 1, 0, 0],  # b is new, a returns
        [1, 0, 0, 1, 2],  # old resurrects, a and b are dormant
        [1, 0, 0, 1, 1],  # a resurrects, old is dormant
    ]


def test_the_range_is_extended_to_whole_periods(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "view", NOON), ("a", "view", NOON + 6 * DAY))
    params = {"start": "2025-03-12", "end": "2025-03-18", "interval": "week"}
    answer = ask(service, "lifecycle", **params)
    assert answer["meta"]["start"] == "2025-03-10T00:00:00Z"
    assert answer["meta"]["end"] == "2025-03-24T00:00:00Z"
    assert counts(answer) == [[1, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert answer["meta"]["definition"] == (
        "For each week of UTC from 2025-03-10T00:00:00Z up to but excluding 2025-03-24T00:00:00Z, "
        "the distinct users with an event: new if it is their first of all time, returning if they "
        "have one in the week before, else resurrected; and the users of the week before who have "
        "none, as dormant."
    )


def test_periods_that_have_not_begun_are_left_out(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "view", NOON))
    set_clock(conn, NOON + timedelta(hours=1))
    answer = ask(service, "lifecycle", start="2025-03-09", end="2025-03-13")
    assert [period["partial"] for period in answer["data"]["series"]] == [False, True]


def test_the_first_day_of_all_has_a_day_before(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "view", datetime(2000, 1, 1, tzinfo=UTC)))
    params = {"start": "2000-01-01", "end": "2000-01-02"}
    assert counts(ask(service, "lifecycle", **params)) == [[1, 1, 0, 0, 0]]
    assert counts(ask(service, "lifecycle", **params, interval="year")) == [[1, 1, 0, 0, 0]]
