"""Lists of the users behind a number: which users, pages of one snapshot, forms and errors."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions.event_counts import EventCounts
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
    ("ann", "view", NOON, {"plan": "pro", "country": "US", "n": 5}),
    ("ann", "buy", NOON + 13 * HOUR, {"plan": "pro", "country": "DE", "n": 7}),
    ("bob", "view", NOON + DAY, {"plan": "free", "country": "US", "n": "5"}),
    ("cid", "view", NOON + DAY, {"country": "US", "n": 5}),
    ("cid", "buy", NOON - DAY, {"plan": ["pro", "team"], "n": 2}),
    ("", "view", NOON + DAY, {"plan": "pro"}),
    ("Zoe", "close", NOON + DAY, {"plan": "team", "country": "US"}),
]
RANGE = {"start": "2025-03-09", "end": "2025-03-13"}
COUNTS = {**RANGE, "list": "users"}
BY_DAY = {**COUNTS, "interval": "day"}
FRESH = {"Cache-Control": "no-cache"}


@pytest.fixture(params=["tail", "chunks", "both"])
def stored(
    request: pytest.FixtureRequest, service: httpx.Client, conn: connection, database_url: str
) -> httpx.Client:
    """A service over `EVENTS`, which are in the tail of columns, in a chunk, or in both."""
    folded = {"tail": 0, "chunks": len(EVENTS), "both": 3}[request.param]
    insert_folded(conn, database_url, EVENTS, folded)
    return service


def ids(answer: Any) -> list[str]:
    return [user["user_id"] for user in answer["data"]]


@pytest.mark.parametrize(
    ("path", "parameters", "expected"),
    [
        ("event-counts", {}, ["Zoe", "ann", "bob", "cid"]),
        ("event-counts", {"event": "buy"}, ["ann", "cid"]),
        ("event-counts", {"where": "plan:pro", "not_did": "view country:US"}, []),
        ("event-counts", {"did": "buy @times:1", "last": "24h", "start": (), "end": ()}, []),
        ("event-counts", {"interval": "day", "cell": "start:2025-03-10"}, ["ann"]),
        ("event-counts", {"interval": "day", "cell": "start:2025-03-11T00:00:00Z"},
         ["Zoe", "ann", "bob", "cid"]),
        ("event-counts", {"interval": "day", "cell": "start:2025-03-12"}, []),
        ("event-counts", {"interval": "day", "tz": "America/New_York", "cell": "start:2025-03-10"},
         ["ann"]),
        ("event-counts", {"interval": "week", "cell": "start:2025-03-09"}, ["cid"]),
        ("event-counts", {"interval": "hour", "cell": "start:2025-03-11T01:00:00+00:00"}, ["ann"]),
        ("top-events", {}, ["Zoe", "ann", "bob", "cid"]),
        ("top-events", {"cell": "event_name:buy"}, ["ann", "cid"]),
        ("top-events", {"cell": "event_name:buy", "event": "view"}, []),
        ("top-events", {"cell": "@row:other", "limit": 1}, ["Zoe", "ann", "cid"]),
        ("top-events", {"cell": "@row:other", "limit": 2}, ["Zoe"]),
        ("active-users", {"cell": "date:2025-03-11 @count:dau"}, ["Zoe", "ann", "bob", "cid"]),
        ("active-users", {"cell": "date:2025-03-10 @count:wau"}, ["ann", "cid"]),
        ("active-users", {"cell": "date:2025-03-10 @count:calendar_week"}, ["ann"]),
        ("active-users", {"cell": "date:2025-03-12 @count:active", "window": 2},
         ["Zoe", "ann", "bob", "cid"]),
        ("active-users", {"cell": "date:2025-03-12 @count:active", "window": 1}, []),
        ("active-users", {"cell": "date:2025-03-11 @count:new"}, ["Zoe", "bob"]),
        ("active-users", {"cell": "date:2025-03-11 @count:existing"}, ["ann", "cid"]),
        ("breakdown", {"by": "plan"}, ["Zoe", "ann", "bob", "cid"]),
        ("breakdown", {"by": "plan", "cell": "plan:pro"}, ["ann", "cid"]),
        ("breakdown", {"by": "plan", "cell": "plan:team"}, ["Zoe", "cid"]),
        ("breakdown", {"by": "plan", "cell": "-plan:*"}, ["cid"]),
        ("breakdown", {"by": "plan", "cell": "@row:missing"}, ["cid"]),
        ("breakdown", {"by": "plan", "cell": "@row:other", "limit": 1}, ["Zoe", "bob", "cid"]),
        ("breakdown", {"by": "plan", "cell": "plan:never"}, []),
        ("breakdown", {"by": "n", "cell": "n:5"}, ["ann", "bob", "cid"]),
        ("breakdown", {"by": "n", "cell": "n:5..5"}, ["ann", "cid"]),
        ("breakdown", {"by": "n", "cell": 'n:"5"'}, ["bob"]),
        ("breakdown", {"by": "@event", "cell": "@event:buy"}, ["ann", "cid"]),
        ("breakdown", {"by": "@event", "cell": "@row:missing"}, []),
        ("breakdown", {"by": ["plan", "country"], "cell": "plan:pro country:US"}, ["ann"]),
        ("breakdown", {"by": ["plan", "country"], "cell": "@row:missing"}, ["cid"]),
        ("breakdown", {"by": "plan", "interval": "day", "cell": "plan:pro start:2025-03-11"},
         ["ann"]),
        ("breakdown",
         {"by": "plan", "interval": "day", "limit": 1, "cell": "@row:other start:2025-03-09"},
         ["cid"]),
        ("numbers", {"of": "n"}, ["ann", "cid"]),
        ("numbers", {"of": "n", "interval": "day", "cell": "start:2025-03-11"}, ["ann", "cid"]),
        ("numbers", {"of": "n", "by": "country", "cell": "country:US"}, ["ann", "cid"]),
        ("numbers", {"of": "n", "by": "country", "cell": "@row:missing"}, ["cid"]),
        ("numbers", {"of": "n", "by": "country", "cell": "@row:other", "limit": 1},
         ["ann", "cid"]),
        ("numbers", {"of": "n", "by": "country", "interval": "day", "limit": 1,
                     "cell": "@row:other start:2025-03-11"}, ["ann"]),
    ],
)  # fmt: skip
def test_users_of_a_number(
    stored: httpx.Client, path: str, parameters: dict[str, Any], expected: list[str]
) -> None:
    answer = ask(stored, path, **{**COUNTS, **parameters})
    assert ids(answer) == expected
    assert answer["meta"]["count"] == len(expected)
    assert answer["meta"]["next_cursor"] is None


def test_the_answer_says_what_it_is_about(stored: httpx.Client) -> None:
    answer = ask(stored, "breakdown", **COUNTS, by="plan", cell="plan:free", where="n:*")
    assert answer["data"] == [{"user_id": "bob"}]
    meta = answer["meta"]
    assert (meta["cell"], meta["where"], meta["source"]) == ("plan:free", "n:*", "columns")
    assert meta["definition"].startswith(
        "The users whom `cell=plan:free` of this answer counts: The 10 most frequent values of plan"
    )
    total = ask(stored, "event-counts", **COUNTS)["meta"]
    assert "cell" not in total
    assert total["definition"].startswith("The users whom the total of this answer counts: The")


def test_unknown_names_of_a_cell_are_in_the_meta(stored: httpx.Client) -> None:
    answer = ask(stored, "top-events", **COUNTS, cell="event_name:by")
    assert answer["meta"]["unknown"] == {"events": ["by"], "properties": []}


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("event-counts", {"interval": "day", "cell": "start:2025-03-08"},
         "start must be that of a bucket of the answer that has begun: from "
         "2025-03-09T00:00:00Z to 2025-03-12T00:00:00Z"),
        ("event-counts", {"interval": "day", "cell": "start:2025-03-10T01:00:00Z"},
         "start must be that of a bucket of the answer that has begun: from "
         "2025-03-09T00:00:00Z to 2025-03-12T00:00:00Z"),
        ("event-counts", {"interval": "hour", "cell": "start:2025-03-10"},
         "start must be that of a bucket of the answer that has begun: from "
         "2025-03-09T00:00:00Z to 2025-03-12T23:00:00Z"),
        ("event-counts", {"interval": "day", "cell": "start:yesterday"},
         "start must be a date (2025-01-31) or an instant with its offset "
         "(2025-01-31T09:00:00Z, 2025-01-31T09:00:00%2B01:00; a plus sign is written %2B)"),
        ("event-counts", {"cell": "start:2025-03-10"},
         "must not have start; start needs `interval`; this answer has no cells"),
        ("active-users", {"cell": "date:2025-03-13 @count:dau"},
         "date must be a day of the answer that has begun: from 2025-03-09 to 2025-03-12"),
        ("breakdown", {"by": "plan", "cell": "country:US"},
         "must not have a condition on country; this answer has @row:other, @row:missing, a "
         "condition on plan"),
    ],
)  # fmt: skip
def test_a_cell_that_the_answer_does_not_have(
    stored: httpx.Client, path: str, parameters: dict[str, Any], message: str
) -> None:
    for explain in ("false", "true"):
        params = {**COUNTS, **parameters, "explain": explain}
        response = stored.get(f"/analytics/{path}", params=params)
        assert_problem(response, 422, "invalid-parameter", "cell")
        assert response.json()["errors"][0]["message"] == message


def test_a_bucket_that_has_not_begun_is_no_cell(service: httpx.Client) -> None:
    params = {"start": "2098-01-01", "end": "2098-02-01", "interval": "day", "list": "users"}
    response = service.get("/analytics/event-counts", params={**params, "cell": "start:2098-01-05"})
    assert_problem(response, 422, "invalid-parameter", "cell")


def pages(service: httpx.Client, path: str, **parameters: Any) -> list[Any]:
    answers = [ask(service, path, **parameters)]
    while cursor := answers[-1]["meta"]["next_cursor"]:
        answers.append(ask(service, path, **parameters, cursor=cursor))
    return answers


def test_pages_have_each_user_once(stored: httpx.Client) -> None:
    for size in (1, 2, 3):
        parts = pages(stored, "event-counts", **COUNTS, page_size=size)
        assert [user for part in parts for user in ids(part)] == ["Zoe", "ann", "bob", "cid"]
        assert {part["meta"]["count"] for part in parts} == {4}
        assert [len(part["data"]) for part in parts[:-1]] == [size] * (len(parts) - 1)


def test_later_pages_see_what_the_first_one_saw(
    stored: httpx.Client, conn: connection, database_url: str
) -> None:
    parameters: dict[str, Any] = {**BY_DAY, "cell": "start:2025-03-11", "page_size": 1}
    first = ask(stored, "event-counts", **parameters)
    insert(conn, ("abe", "view", NOON + DAY), ("ann", "view", NOON + DAY), ("", "x", NOON + DAY))
    second = ask(stored, "event-counts", **parameters, cursor=first["meta"]["next_cursor"])
    fold(database_url)
    insert(conn, ("bea", "view", NOON + DAY))
    last = {**parameters, "page_size": 9, "cursor": second["meta"]["next_cursor"]}
    third = ask(stored, "event-counts", **last)
    assert [*ids(first), *ids(second), *ids(third)] == ["Zoe", "ann", "bob", "cid"]
    for name in ("computed_at", "count"):
        assert len({each["meta"][name] for each in (first, second, third)}) == 1
    url = "/analytics/event-counts"
    fresh = stored.get(url, params={**parameters, "page_size": 9}, headers=FRESH).json()
    number = stored.get(url, params={**RANGE, "interval": "day"}, headers=FRESH).json()["data"]
    assert ids(fresh) == ["Zoe", "abe", "ann", "bea", "bob", "cid"]
    assert fresh["meta"]["count"] == number["series"][2]["users"] == 6


def test_erased_users_are_on_no_page(stored: httpx.Client, conn: connection) -> None:
    admin = add_key(conn, "an-admin", "admin", name="admin")
    whole = ask(stored, "event-counts", **COUNTS)
    assert ids(whole) == ["Zoe", "ann", "bob", "cid"]
    first = ask(stored, "event-counts", **COUNTS, page_size=2)
    assert stored.delete("/analytics/users/bob", headers=admin).status_code == 200
    rest = {"cursor": first["meta"]["next_cursor"], "page_size": 2}
    assert ids(ask(stored, "event-counts", **COUNTS, **rest)) == ["cid"]
    # Also not on a page that was cached.
    again = ask(stored, "event-counts", **COUNTS)
    assert (ids(again), again["meta"]["count"]) == (["Zoe", "ann", "cid"], 3)


def test_dropped_events_are_a_conflict_with_the_start_that_works(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, *EVENTS)
    fold(database_url)
    pro = {"cell": "plan:pro"}
    first = ask(service, "breakdown", **COUNTS, **pro, by="plan", page_size=1)
    until = datetime(2025, 3, 11, tzinfo=UTC)
    drop(database_url, [zone("UTC")], until)
    params = {**COUNTS, "by": "plan"}
    others: list[dict[str, Any]] = [pro, {"cell": "@row:other"}]
    others.append({**pro, "page_size": 1, "cursor": first["meta"]["next_cursor"]})
    for other in others:
        response = service.get("/analytics/breakdown", params={**params, **other}, headers=FRESH)
        assert_problem(response, 409, "events-dropped")
        assert "`start=2025-03-11T00:00:00Z` or later" in response.text
    assert ids(ask(service, "breakdown", **{**params, **pro, "start": "2025-03-11"})) == ["ann"]
    # Only properties are dropped from columns.
    assert ids(ask(service, "event-counts", **COUNTS)) == ["Zoe", "ann", "bob", "cid"]
    by_day = {**BY_DAY, "by": "plan"}
    assert ids(ask(service, "breakdown", **by_day, cell="plan:pro start:2025-03-11")) == ["ann"]


@pytest.mark.parametrize(
    ("count", "alternative"),
    [
        ("wau", "a `date` whose window begins at 2025-03-11T00:00:00Z or later"),
        ("new", "events without `where`"),
        ("existing", "events without `where`"),
    ],
)
def test_dropped_events_are_a_conflict_with_the_active_users_that_can_be_listed(
    service: httpx.Client, conn: connection, database_url: str, count: str, alternative: str
) -> None:
    insert(conn, *EVENTS)
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 3, 11, tzinfo=UTC))
    params = {**COUNTS, "where": "plan:pro", "cell": f"date:2025-03-12 @count:{count}"}
    response = service.get("/analytics/active-users", params=params)
    assert_problem(response, 409, "events-dropped")
    assert response.json()["detail"].endswith(f"about {alternative}.")


def test_a_cursor_belongs_to_its_question(stored: httpx.Client) -> None:
    cursor = ask(stored, "event-counts", **COUNTS, page_size=1)["meta"]["next_cursor"]
    others: list[tuple[str, dict[str, Any]]] = [
        ("event-counts", {"where": "plan:pro"}),
        ("event-counts", {"interval": "day", "cell": "start:2025-03-11"}),
        ("event-counts", {"tz": "Asia/Tokyo"}),
        ("top-events", {}),
        ("users", {"list": ()}),
    ]
    for path, other in others:
        params = {**COUNTS, **other, "cursor": cursor}
        assert_problem(
            stored.get(f"/analytics/{path}", params=params), 400, "invalid-cursor", "cursor"
        )
    for bad in ("", "x", cursor[:-1], cursor + "A"):
        response = stored.get("/analytics/event-counts", params={**COUNTS, "cursor": bad})
        assert_problem(response, 400, "invalid-cursor", "cursor")


@pytest.mark.parametrize(
    "forged",
    [
        {"snapshot": "1:2:x"},
        {"lineage": "another"},
        {"now": datetime(1, 1, 1, tzinfo=UTC)},
        {"user_id": "a\0b"},
    ],
)
def test_a_forged_cursor_is_refused(stored: httpx.Client, forged: dict[str, Any]) -> None:
    """With the source anybody can make its digest."""
    times = {"start": NOON, "end": NOON + DAY, "now": NOON + DAY}
    others: dict[str, Any] = {"value": 0, "user_id": "u", "snapshot": "5:5:", "lineage": ""}
    page = EventCounts(**COUNTS).query.page
    assert page
    cursor = page.cursor_at(UserPosition(**(times | others | forged)))
    for explain in ("false", "true"):
        params = {**COUNTS, "cursor": cursor, "explain": explain}
        response = stored.get("/analytics/event-counts", params=params)
        assert_problem(response, 400, "invalid-cursor", "cursor")


def test_a_table_has_the_count_and_the_cursor_in_headers(stored: httpx.Client) -> None:
    params = {**COUNTS, "page_size": "1"}
    url = "/analytics/event-counts"
    table = stored.get(url, params={**params, "format": "csv"})
    assert table.text.splitlines() == ["user_id", "Zoe"]
    assert table.headers["x-count"] == "4"
    cursor = table.headers["x-next-cursor"]
    following = stored.get(url, params={**COUNTS, "format": "ndjson", "cursor": cursor})
    assert following.text.splitlines() == [
        f'{{"user_id":"{each}"}}' for each in ("ann", "bob", "cid")
    ]
    assert "x-next-cursor" not in following.headers
    empty = stored.get(url, params={**COUNTS, "where": "plan:never", "format": "csv"})
    assert (empty.text.splitlines(), empty.headers["x-count"]) == (["user_id"], "0")


def test_head_has_the_headers_of_get(stored: httpx.Client) -> None:
    params = {**COUNTS, "format": "csv"}
    get = stored.get("/analytics/event-counts", params=params)
    head = stored.head("/analytics/event-counts", params=params)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "x-count"):
        assert head.headers[name] == get.headers[name]


def test_a_list_is_explained(stored: httpx.Client) -> None:
    params = {**BY_DAY, "cell": "start:2025-03-10", "explain": "true"}
    plan = ask(stored, "event-counts", **params)["data"]
    assert (plan["source"], plan["rows"]) == ("columns", 0)
    assert plan["tail"] + plan["column_rows"] > 0


def test_the_parameters_of_a_list_need_it(stored: httpx.Client) -> None:
    for name, value in (("cell", "start:2025-03-10"), ("cursor", "x"), ("page_size", "5")):
        response = stored.get("/analytics/event-counts", params={**RANGE, name: value})
        assert_problem(response, 422, "invalid-parameter", name)
        assert response.json()["errors"][0]["message"] == "needs `list=users`"
