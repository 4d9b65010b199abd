"""properties: all properties, with the counts of all events up to now."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from repo.catalogue import count
from repo.queries import properties
from tests.api.questions import ask
from tests.api.test_keys import add_key
from tests.events import fold, insert, insert_folded
from tests.problems import assert_problem
from tests.retention import drop
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PATH = "/analytics/properties"
FIRST, LAST = "2025-03-10T12:00:00Z", "2025-03-12T12:00:00Z"


def rows(service: httpx.Client, **parameters: object) -> list[Any]:
    response = service.get(PATH, params=parameters, headers={"Cache-Control": "no-cache"})  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return [
        (row["property"], row["events"], row["users"]) for row in response.json()["data"]["rows"]
    ]


EVENTS = [
    ("u", "view", NOON, {"plan": "pro", "n": 5}),
    ("v", "view", NOON + 2 * DAY, {"plan": 5, "cart": {"total": 1.5}}),
    (
        "",
        "view",
        NOON,
        {"plan": ["pro", True, 5.0], "none": None, "empty": {}, "unit price": 1},
    ),
    ("u", "later", datetime(2099, 1, 1, tzinfo=UTC), {"plan": "pro"}),
]


@pytest.fixture(params=["events", "folded", "partly folded", "stored"])
def stored(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    service: httpx.Client,
    conn: connection,
    database_url: str,
) -> httpx.Client:
    """Events that are not folded, all folded, or in part; or whose statistics are stored."""
    if request.param == "stored":
        monkeypatch.setattr(count, "MIN_EVENTS", 0)
    if request.param == "events":
        insert(conn, *EVENTS)
    else:
        folded = 2 if request.param == "partly folded" else len(EVENTS)
        insert_folded(conn, database_url, EVENTS, folded)
    return service


def row(
    name: str, events: int, users: int, times: str, types: Any, distinct: int
) -> dict[str, Any]:
    first, _, last = times.partition(" ")
    return {
        "property": name,
        "events": events,
        "users": users,
        "first_seen": first,
        "last_seen": last or first,
        "types": types,
        "distinct": distinct,
    }


def test_properties_have_their_counts_types_and_times(stored: httpx.Client) -> None:
    answer = ask(stored, "properties")
    types = {"boolean": 1, "number": 2, "text": 2}
    assert answer["data"] == {
        "properties": 4,
        "rows": [
            row("plan", 3, 2, f"{FIRST} {LAST}", types, 3),
            row('"unit price"', 1, 0, FIRST, {"number": 1}, 1),
            row("cart.total", 1, 1, LAST, {"number": 1}, 1),
            row("n", 1, 1, FIRST, {"number": 1}, 1),
        ],
    }
    meta = answer["meta"]
    assert (meta["start"], meta["end"], meta["source"]) == (None, None, "columns")
    assert meta["counted_at"] <= meta["computed_at"]
    assert meta["definition"] == (
        "The 10 most frequent properties, with the number of events at any time up to now that "
        "have a value, of the distinct users who caused them, and of distinct values."
    )


def test_rows_have_a_column_for_each_type(stored: httpx.Client) -> None:
    lines = stored.get(f"{PATH}?format=csv&limit=2").text.splitlines()
    assert lines == [
        "property,events,users,first_seen,last_seen,text,number,boolean,distinct",
        f"plan,3,2,{FIRST},{LAST},2,2,1,3",
        f'"""unit price""",1,0,{FIRST},{FIRST},,1,,1',
    ]


def test_properties_are_found_by_their_beginning(stored: httpx.Client) -> None:
    assert rows(stored, starts="cart.") == [("cart.total", 1, 1)]
    assert rows(stored, starts="unit") == rows(stored, starts='"unit') == [('"unit price"', 1, 0)]
    assert rows(stored, starts="N") == []
    assert ask(stored, "properties", limit=1)["data"]["properties"] == 4


def test_a_property_that_only_an_erased_user_had_is_gone(
    stored: httpx.Client, conn: connection
) -> None:
    admin = add_key(conn, "an-admin", "admin", name="admin")
    assert stored.delete("/analytics/users/v", headers=admin).status_code == 200
    assert rows(stored) == [("plan", 2, 1), ('"unit price"', 1, 0), ("n", 1, 1)]


def test_very_many_values_are_counted_in_the_background(
    service: httpx.Client,
    conn: connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert(conn, ("u", "view", NOON, {"plan": "pro"}))
    fold(database_url)
    monkeypatch.setattr(properties, "MAX_VALUES", 0)
    response = service.get(PATH)
    assert_problem(response, 503, "catalogue-counting")
    assert response.headers["retry-after"] == "30"
    monkeypatch.setattr(count, "MIN_EVENTS", 0)
    fold(database_url)
    assert rows(service) == [("plan", 1, 1)]


def test_dropped_properties_do_not_count(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOON, {"old": 1, "a": 1}), ("u", "view", NOON + 40 * DAY, {"a": 1}))
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 4, 1, tzinfo=UTC))
    assert rows(service) == [("a", 1, 1)]
    assert ask(service, "properties")["meta"]["start"] == "2025-04-01T00:00:00Z"


def test_columns_of_dropped_events_count(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOON, {"old": 1, "a": 1}), ("u", "view", NOON + 40 * DAY, {"a": 1}))
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 4, 1, tzinfo=UTC), keeps_properties=True)
    assert rows(service) == [("a", 2, 1), ("old", 1, 1)]


def test_other_parameters_are_refused(shared_service: httpx.Client) -> None:
    for name in ("start", "event", "tz", "where", "explain"):
        assert_problem(
            shared_service.get(f"{PATH}?{name}=x"), 422, "invalid-parameter", "(unknown)"
        )
    assert_problem(shared_service.get(f"{PATH}?limit=0"), 422, "invalid-parameter", "limit")
