"""users/{user_id}/events: pages in both directions that stay right while events arrive."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions.user_events import UserEvents
from repo.queries import user_events
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


def names(answer: Any) -> list[str]:
    return [event["event_name"] for event in answer["data"]]


def test_a_filter_leaves_events_out(service: httpx.Client, conn: connection) -> None:
    rows = [("u", str(n), NOON - n * MINUTE, {"n": n, "even": n % 2 == 0}) for n in range(8)]
    insert(conn, *rows, ("other", "x", NOON, {"n": 1}))
    answer = page(service, "u", where=["n:>=2", "-even:true"])
    assert names(answer) == ["3", "5", "7"]
    assert answer["meta"]["where"] == "-even:true n:>=2"
    assert names(page(service, "u", where="@event:2,3 @user:u")) == ["2", "3"]
    assert names(page(service, "u", where="@user:other")) == []
    assert names(page(service, "u", where="n:*", event="4")) == ["4"]
    assert names(page(service, "u", where="n:1", start="2025-03-11", end="2025-03-12")) == []


def test_pages_of_a_filter_lead_in_both_directions(service: httpx.Client, conn: connection) -> None:
    insert(conn, *[("u", str(n), NOON - n // 2 * MINUTE, {"n": n % 10}) for n in range(200)])
    pages = [page(service, "u", where="n:3", limit=6)]
    while cursor := pages[-1]["meta"]["next_cursor"]:
        pages.append(page(service, "u", where="n:3", limit=6, cursor=cursor))
    seen = [name for answer in pages for name in names(answer)]
    assert sorted(map(int, seen)) == list(range(3, 200, 10))
    assert [len(answer["data"]) for answer in pages] == [6, 6, 6, 2]
    back = [pages[-1]]
    while cursor := back[-1]["meta"]["previous_cursor"]:
        back.append(page(service, "u", where="n:3", limit=6, cursor=cursor))
    assert [name for answer in reversed(back) for name in names(answer)] == seen


def test_a_page_tests_a_limited_number_of_rows(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_events, "MAX_TESTED", 10)
    insert(conn, *[("u", str(n), NOON - n * MINUTE, {"n": n}) for n in range(25)])
    first = page(service, "u", where="n:1,23", limit=2)
    second = page(service, "u", where="n:1,23", limit=2, cursor=first["meta"]["next_cursor"])
    third = page(service, "u", where="n:1,23", limit=2, cursor=second["meta"]["next_cursor"])
    assert [names(each) for each in (first, second, third)] == [["1"], [], ["23"]]
    assert third["meta"]["next_cursor"] is None
    back = page(service, "u", where="n:1,23", limit=2, cursor=third["meta"]["previous_cursor"])
    assert names(back) == []
    back = page(service, "u", where="n:1,23", limit=2, cursor=back["meta"]["previous_cursor"])
    assert names(back) == ["1"]
    assert back["meta"]["previous_cursor"] is None


def test_a_filter_belongs_to_the_cursor(service: httpx.Client, conn: connection) -> None:
    insert(conn, *[("u", "x", NOON - n * MINUTE, {"n": n}) for n in range(3)])
    cursor = page(service, "u", where="n:*", limit=1)["meta"]["next_cursor"]
    equal = page(service, "u", where="(n:*)", limit=1, cursor=cursor)
    assert equal["data"][0]["properties"] == {"n": 1}
    for other in ({}, {"where": "n:1"}):
        response = service.get("/analytics/users/u/events", params={**other, "cursor": cursor})
        assert_problem(response, 400, "invalid-cursor", "cursor")


def test_a_cursor_without_a_filter_is_that_of_older_versions() -> None:
    identity = UserEvents(user_id="u", tz="UTC").query.identity
    assert identity == "8fefb053eaac3412c461aef72d8d8640f046a046230d1384e3000396766a78d3"
