"""users/{user_id}/events: pages in both directions that stay right while events arrive."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions.user_events import UserEvents
from tests.api.questions import ask
from tests.events import insert
from tests.problems import assert_problem
from utils.keyset import Position

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def page(service: httpx.Client, user: str, **parameters: object) -> Any:
    return ask(service, f"users/{user}/events", **parameters)


def test_an_unknown_user_is_an_empty_list(service: httpx.Client) -> None:
    answer = page(service, "nobody-knows")
    assert answer["data"] == []
    assert answer["meta"]["next_cursor"] is None
    assert answer["meta"]["previous_cursor"] is None
    assert (answer["meta"]["start"], answer["meta"]["end"]) == (None, None)


def test_each_event_comes_once_while_others_arrive(service: httpx.Client, conn: connection) -> None:
    """1,000 events at ten moments, and new ones before, between and after them all the time."""
    insert(conn, *[("u", f"old{n}", NOON + n % 10 * MINUTE) for n in range(1000)])
    seen: list[str] = []
    cursor = None
    while True:
        answer = page(service, "u", limit=33, **({"cursor": cursor} if cursor else {}))
        seen += [e["event_name"] for e in answer["data"] if e["event_name"].startswith("old")]
        insert(conn, *[("u", "new", NOON + n * MINUTE) for n in (-5, 3, 50)])
        if not (cursor := answer["meta"]["next_cursor"]):
            break
    assert len(seen) == 1000
    assert len(set(seen)) == 1000


def test_going_back_gives_the_pages_before(service: httpx.Client, conn: connection) -> None:
    insert(conn, *[("u", str(n), NOON - n * MINUTE) for n in range(7)])
    first = page(service, "u", limit=3)
    second = page(service, "u", limit=3, cursor=first["meta"]["next_cursor"])
    back = page(service, "u", limit=3, cursor=second["meta"]["previous_cursor"])
    assert [e["event_name"] for e in second["data"]] == ["3", "4", "5"]
    assert back["data"] == first["data"]
    assert back["meta"]["previous_cursor"] is None
    assert back["meta"]["next_cursor"] == first["meta"]["next_cursor"]


def test_the_last_page_that_is_full_has_no_next(service: httpx.Client, conn: connection) -> None:
    insert(conn, *[("u", "x", NOON - n * MINUTE) for n in range(3)])
    assert page(service, "u", limit=3)["meta"]["next_cursor"] is None


def test_a_range_and_names_narrow_it(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u", "a", NOON), ("u", "b", NOON), ("u", "a", NOON + timedelta(days=9)))
    answer = page(service, "u", event="a", start="2025-03-10", end="2025-03-11")
    assert [e["event_name"] for e in answer["data"]] == ["a"]
    assert answer["meta"]["complete_until"] == "2025-03-11T00:00:00Z"


@pytest.mark.parametrize("user", ["a/b", "a/events", "a\nb", " ", "ü%25", "?#&", "\u2028"])
def test_a_user_may_be_called_anything(service: httpx.Client, conn: connection, user: str) -> None:
    insert(conn, (user, "view", NOON), ("another", "view", NOON))
    assert len(page(service, quote(user, safe=""))["data"]) == 1


def test_a_slash_of_a_user_needs_no_escape(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("org/7/ü?", "x", NOON), ("org", "y", NOON))
    response = service.get("/analytics/users/org/7/%C3%BC%3F/events")
    assert [e["event_name"] for e in response.json()["data"]] == ["x"]


def test_properties_come_back_as_they_were_given(service: httpx.Client, conn: connection) -> None:
    """Neither long numbers nor fine ones pass through a float."""
    insert(conn, ("u", "x", NOON))
    with conn.cursor() as cur:
        cur.execute(
            "insert into events (event_id, user_id, event_name, occurred_at, properties) values "
            "(gen_random_uuid(), 'v', 'x', now(), "
            """'{"long": 123456789012345678901234567890, """
            """"fine": 0.1000000000000000055511151231}')"""
        )
    text = service.get("/analytics/users/v/events").text
    assert '"long": 123456789012345678901234567890' in text
    assert '"fine": 0.1000000000000000055511151231' in text


def test_moments_are_told_in_the_zone_that_was_asked_for(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("u", "x", NOON))
    (event,) = page(service, "u", tz="Asia/Kathmandu")["data"]
    assert event["occurred_at"] == "2025-03-10T17:45:00+05:45"


@pytest.mark.parametrize(
    "forged",
    [
        {"start": datetime(2026, 1, 1, tzinfo=UTC), "end": datetime(2025, 1, 1, tzinfo=UTC)},
        {"occurred_at": datetime(1, 1, 2, tzinfo=UTC)},
        {"occurred_at": datetime(2025, 1, 1)},
        {"start": datetime(1, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_forged_cursor_is_refused(service: httpx.Client, forged: dict[str, datetime]) -> None:
    """With the source anybody can make its digest."""
    good = {"start": NOON, "end": NOON + 5 * MINUTE, "occurred_at": NOON}
    position = Position(direction="older", event_id=UUID(int=1), **{**good, **forged})
    cursor = UserEvents(user_id="u").query.cursor_at(position)
    response = service.get("/analytics/users/u/events", params={"cursor": cursor})
    assert_problem(response, 400, "invalid-cursor", "cursor")
