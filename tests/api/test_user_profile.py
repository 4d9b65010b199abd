"""The question `user_profile`: numbers, events by name, and the latest values of properties."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.events import fold, insert
from tests.problems import assert_problem
from tests.retention import drop
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def put(conn: connection) -> None:
    insert(
        conn,
        ("ann", "view", NOON, {"plan": "free", "n": 1, "gone": 7}),
        ("ann", "view", NOON + 13 * HOUR, {"plan": "pro", "cart": {"total": 20.5}}),
        ("ann", "buy", NOON + 14 * HOUR, {"gone": None, "tags": ["a"]}),
        ("bob", "buy", NOON + 30 * HOUR, {"plan": "team"}),
        ("ann", "later", datetime(2090, 1, 1, tzinfo=UTC), {"plan": "never"}),
    )


PROFILE = {
    "user_id": "ann",
    "first_seen": "2025-03-10T12:00:00Z",
    "last_seen": "2025-03-11T02:00:00Z",
    "events": 3,
    "active_days": 2,
    "event_names": [
        {
            "event_name": "view",
            "events": 2,
            "first_seen": "2025-03-10T12:00:00Z",
            "last_seen": "2025-03-11T01:00:00Z",
        },
        {
            "event_name": "buy",
            "events": 1,
            "first_seen": "2025-03-11T02:00:00Z",
            "last_seen": "2025-03-11T02:00:00Z",
        },
    ],
    "properties": [
        {"name": "cart", "value": {"total": 20.5}, "set_at": "2025-03-11T01:00:00Z"},
        {"name": "gone", "value": 7, "set_at": "2025-03-10T12:00:00Z"},
        {"name": "n", "value": 1, "set_at": "2025-03-10T12:00:00Z"},
        {"name": "plan", "value": "pro", "set_at": "2025-03-11T01:00:00Z"},
        {"name": "tags", "value": ["a"], "set_at": "2025-03-11T02:00:00Z"},
    ],
}


def test_a_profile(service: httpx.Client, conn: connection) -> None:
    put(conn)
    answer = ask(service, "users/ann")
    assert answer["data"] == PROFILE
    meta = answer["meta"]
    assert (meta["start"], meta["end"], meta["source"]) == (None, None, "events")
    assert meta["definition"] == (
        "The events of the user at any time, up to now, and the latest value of each property "
        "that they have."
    )


def test_a_range_and_names_narrow_it(service: httpx.Client, conn: connection) -> None:
    put(conn)
    data = ask(service, "users/ann", start="2025-03-11", tz="America/New_York")["data"]
    assert (data["events"], data["active_days"]) == (0, 0)
    data = ask(service, "users/ann", start="2025-03-10", end="2025-03-11", event="view")["data"]
    assert (data["events"], data["active_days"]) == (1, 1)
    assert [each["value"] for each in data["properties"]] == [7, 1, "free"]
    west = ask(service, "users/ann", tz="America/New_York")["data"]
    assert (west["active_days"], west["first_seen"]) == (1, "2025-03-10T08:00:00-04:00")


def test_an_unknown_user_has_an_empty_profile(service: httpx.Client, conn: connection) -> None:
    put(conn)
    assert ask(service, "users/nobody")["data"] == {
        "user_id": None,
        "first_seen": None,
        "last_seen": None,
        "events": 0,
        "active_days": 0,
        "event_names": [],
        "properties": [],
    }
    assert service.get("/analytics/users/nobody?format=csv").text.splitlines() == [
        "event_name,events,first_seen,last_seen"
    ]


def test_rows_are_event_names(service: httpx.Client, conn: connection) -> None:
    put(conn)
    assert service.get("/analytics/users/ann?format=csv").text.splitlines() == [
        "event_name,events,first_seen,last_seen",
        "view,2,2025-03-10T12:00:00Z,2025-03-11T01:00:00Z",
        "buy,1,2025-03-11T02:00:00Z,2025-03-11T02:00:00Z",
    ]


def test_values_come_back_as_they_were_given(service: httpx.Client, conn: connection) -> None:
    with conn.cursor() as cur:
        cur.execute(
            "insert into events (event_id, user_id, event_name, occurred_at, properties) values "
            "(gen_random_uuid(), 'v', 'x', now(), "
            """'{"long": 123456789012345678901234567890}')"""
        )
    text = service.get("/analytics/users/v").text
    assert '"value":123456789012345678901234567890' in text


@pytest.mark.parametrize("user", ["a/b", "a\nb", " ", "ü%25", "?#&"])
def test_a_user_may_be_called_anything(service: httpx.Client, conn: connection, user: str) -> None:
    insert(conn, (user, "view", NOON), ("another", "view", NOON))
    data = ask(service, f"users/{quote(user, safe='')}")["data"]
    assert (data["user_id"], data["events"]) == (user, 1)


def test_a_path_that_ends_with_events_is_a_history(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a/events", "view", NOON), ("a", "buy", NOON))
    history = ask(service, "users/a/events")["data"]
    assert [event["event_name"] for event in history] == ["buy"]
    (user,) = ask(service, "users", where='@user:"a/events"')["data"]
    assert (user["user_id"], user["events"]) == ("a/events", 1)


def test_dropped_events_are_refused(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    put(conn)
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 3, 11, tzinfo=UTC))
    answer = ask(service, "users/ann")
    assert (answer["data"]["events"], answer["meta"]["start"]) == (2, "2025-03-11T00:00:00Z")
    response = service.get("/analytics/users/ann?start=2025-03-10")
    assert_problem(response, 409, "events-dropped")
