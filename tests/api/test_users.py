"""The list of users: order, pages of one snapshot, and the conditions that narrow it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions.users import Users
from common.user_pages import UserPosition
from tests.api.questions import ask
from tests.api.test_keys import add_key
from tests.events import fold, insert, insert_folded
from tests.problems import assert_problem
from tests.retention import drop
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVENTS = [
    ("ann", "view", NOON, {"plan": "pro"}),
    ("ann", "buy", NOON + 13 * HOUR, {"plan": "pro"}),
    ("ann", "view", NOON + 13 * HOUR, {}),
    ("bob", "view", NOON + DAY, {"plan": "free"}),
    ("cid", "view", NOON + DAY, {}),
    ("cid", "buy", NOON - DAY, {}),
    ("", "view", NOON + 2 * DAY, {}),
    ("Zoe", "view", NOON + DAY, {"plan": "pro"}),
]


@pytest.fixture(params=["tail", "chunks", "both"])
def stored(
    request: pytest.FixtureRequest, service: httpx.Client, conn: connection, database_url: str
) -> httpx.Client:
    """A service over `EVENTS`, which are in the tail of columns, in a chunk, or in both."""
    folded = {"tail": 0, "chunks": len(EVENTS), "both": 3}[request.param]
    insert_folded(conn, database_url, EVENTS, folded)
    return service


def page(service: httpx.Client, **parameters: Any) -> Any:
    return ask(service, "users", **parameters)


def ids(answer: Any) -> list[str]:
    return [user["user_id"] for user in answer["data"]]


def pages(service: httpx.Client, **parameters: Any) -> list[Any]:
    answers = [page(service, **parameters)]
    while cursor := answers[-1]["meta"]["next_cursor"]:
        answers.append(page(service, **parameters, cursor=cursor))
    return answers


def test_users_with_what_they_did(stored: httpx.Client) -> None:
    answer = page(stored)
    assert answer["data"] == [
        {
            "user_id": "Zoe",
            "first_seen": "2025-03-11T12:00:00Z",
            "last_seen": "2025-03-11T12:00:00Z",
            "events": 1,
            "active_days": 1,
        },
        {
            "user_id": "bob",
            "first_seen": "2025-03-11T12:00:00Z",
            "last_seen": "2025-03-11T12:00:00Z",
            "events": 1,
            "active_days": 1,
        },
        {
            "user_id": "cid",
            "first_seen": "2025-03-09T12:00:00Z",
            "last_seen": "2025-03-11T12:00:00Z",
            "events": 2,
            "active_days": 2,
        },
        {
            "user_id": "ann",
            "first_seen": "2025-03-10T12:00:00Z",
            "last_seen": "2025-03-11T01:00:00Z",
            "events": 3,
            "active_days": 2,
        },
    ]
    meta = answer["meta"]
    assert (meta["count"], meta["next_cursor"]) == (4, None)
    assert (meta["start"], meta["end"], meta["source"]) == (None, None, "columns")
    assert meta["definition"] == (
        "The users with an event at any time, with the first and the last of these events, their "
        "number, and the number of days of UTC that have one."
    )


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sort": "first_seen"}, ["Zoe", "bob", "ann", "cid"]),
        ({"sort": "events"}, ["ann", "cid", "Zoe", "bob"]),
        ({"event": "buy"}, ["ann", "cid"]),
        ({"where": "plan:pro"}, ["Zoe", "ann"]),
        ({"where": '@user:"cid",bob'}, ["bob", "cid"]),
        ({"did": "buy"}, ["cid", "ann"]),
        ({"did": "view plan:pro", "not_did": "buy"}, ["Zoe"]),
        ({"did": "* @times:2.. @start:2025-03-10"}, ["ann"]),
        ({"start": "2025-03-11"}, ["Zoe", "bob", "cid", "ann"]),
        ({"start": "2025-03-09", "end": "2025-03-11", "did": "buy"}, ["cid"]),
        ({"where": "plan:none"}, []),
    ],
)
def test_order_and_conditions(
    stored: httpx.Client, parameters: dict[str, str], expected: list[str]
) -> None:
    answer = page(stored, **parameters)
    assert ids(answer) == expected
    assert answer["meta"]["count"] == len(expected)


def test_numbers_are_those_of_the_range_and_its_conditions(stored: httpx.Client) -> None:
    (ann,) = page(stored, where="plan:pro @user:ann", tz="America/New_York")["data"]
    assert ann == {
        "user_id": "ann",
        "first_seen": "2025-03-10T08:00:00-04:00",
        "last_seen": "2025-03-10T21:00:00-04:00",
        "events": 2,
        "active_days": 1,
    }
    (cid,) = page(stored, start="2025-03-11", end="2025-03-12", where="@user:cid")["data"]
    assert (cid["events"], cid["first_seen"]) == (1, "2025-03-11T12:00:00Z")


@pytest.mark.parametrize("sort", ["last_seen", "first_seen", "events"])
def test_pages_have_each_user_once(stored: httpx.Client, sort: str) -> None:
    whole = page(stored, sort=sort)
    for limit in (1, 2, 3):
        parts = pages(stored, sort=sort, limit=limit)
        assert [user for part in parts for user in part["data"]] == whole["data"]
        assert {part["meta"]["count"] for part in parts} == {4}
        assert [len(part["data"]) for part in parts[:-1]] == [limit] * (len(parts) - 1)


def test_later_pages_see_what_the_first_one_saw(
    stored: httpx.Client, conn: connection, database_url: str
) -> None:
    whole = page(stored, did="view")
    first = page(stored, did="view", limit=1)
    insert(conn, ("ann", "view", NOON + 3 * DAY), ("new", "view", NOON), ("cid", "buy", NOON))
    second = page(stored, did="view", limit=1, cursor=first["meta"]["next_cursor"])
    fold(database_url)
    rest = page(stored, did="view", limit=9, cursor=second["meta"]["next_cursor"])
    assert [*first["data"], *second["data"], *rest["data"]] == whole["data"]
    times = {each["meta"]["computed_at"] for each in (first, second, rest)}
    assert len(times) == 1
    fresh = stored.get("/analytics/users?did=view", headers={"Cache-Control": "no-cache"}).json()
    assert ids(fresh) == ["ann", "Zoe", "bob", "cid", "new"]


def test_erased_users_are_on_no_page(stored: httpx.Client, conn: connection) -> None:
    admin = add_key(conn, "an-admin", "admin", name="admin")
    first = page(stored, limit=1)
    assert stored.delete("/analytics/users/cid", headers=admin).status_code == 200
    rest = page(stored, cursor=first["meta"]["next_cursor"])
    assert ids(rest) == ["bob", "ann"]


def test_a_cursor_belongs_to_its_parameters(stored: httpx.Client) -> None:
    cursor = page(stored, limit=1)["meta"]["next_cursor"]
    for other in ({"sort": "events"}, {"where": "plan:pro"}, {"did": "view"}, {"tz": "Asia/Tokyo"}):
        response = stored.get("/analytics/users", params={**other, "cursor": cursor})
        assert_problem(response, 400, "invalid-cursor", "cursor")


@pytest.mark.parametrize(
    "forged",
    [
        {"start": NOON, "end": NOON},
        {"end": datetime(2101, 1, 1, tzinfo=UTC)},
        {"snapshot": "1:2"},
        {"snapshot": "1:2:x"},
        {"lineage": "another"},
        {"now": datetime(1, 1, 1, tzinfo=UTC)},
        {"user_id": "a\0b"},
    ],
)
def test_a_forged_cursor_is_refused(stored: httpx.Client, forged: dict[str, Any]) -> None:
    """With the source anybody can make its digest."""
    times = {"start": NOON, "end": NOON + DAY, "now": NOON + DAY}
    others: dict[str, Any] = {"value": 1, "user_id": "u", "snapshot": "5:5:", "lineage": ""}
    position = UserPosition(**(times | others | forged))
    cursor = Users().page.cursor_at(position)
    response = stored.get("/analytics/users", params={"cursor": cursor})
    assert_problem(response, 400, "invalid-cursor", "cursor")


def test_cursors_are_headers_of_tables(stored: httpx.Client) -> None:
    table = stored.get("/analytics/users?limit=1&format=csv")
    assert table.text.splitlines() == [
        "user_id,first_seen,last_seen,events,active_days",
        "Zoe,2025-03-11T12:00:00Z,2025-03-11T12:00:00Z,1,1",
    ]
    assert table.headers["x-count"] == "4"
    cursor = table.headers["x-next-cursor"]
    following = stored.get("/analytics/users", params={"format": "ndjson", "cursor": cursor})
    assert len(following.text.splitlines()) == 3
    assert "x-next-cursor" not in following.headers


def test_without_a_range_the_list_is_about_all_that_columns_hold(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, *EVENTS)
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 3, 11, tzinfo=UTC))
    answer = page(service)
    assert [user["events"] for user in answer["data"]] == [1, 1, 2, 3]
    assert (answer["meta"]["start"], answer["meta"]["end"]) == (None, None)
    # Properties were dropped with the events.
    answer = page(service, where="plan:pro")
    assert ids(answer) == ["Zoe", "ann"]
    assert (answer["meta"]["start"], answer["meta"]["end"]) == ("2025-03-11T00:00:00Z", None)
    assert answer["data"][-1]["events"] == 1
    assert ids(page(service, did="view plan:pro")) == ["Zoe"]
    response = service.get("/analytics/users?start=2025-03-10&where=plan:pro")
    assert_problem(response, 409, "events-dropped")
