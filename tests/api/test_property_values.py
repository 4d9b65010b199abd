"""property-values: the values of one property, with the counts of all events up to now."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from psycopg2.extensions import connection

from repo.catalogue import count
from tests.api.questions import ask
from tests.api.test_keys import add_key
from tests.events import insert, insert_folded
from tests.problems import assert_problem

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def rows(service: httpx.Client, name: str, **parameters: object) -> list[Any]:
    path = f"/analytics/properties/{quote(name, safe='')}/values"
    response = service.get(path, params=parameters, headers={"Cache-Control": "no-cache"})  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return [(row["value"], row["events"], row["users"]) for row in response.json()["data"]["rows"]]


EVENTS = [
    ("u", "view", NOON, {"plan": "pro", "a/b": {"c.d": "x"}}),
    ("v", "view", NOON, {"plan": "pro", 'a"b': "y"}),
    ("v", "view", NOON, {"plan": 5}),
    ("w", "view", NOON, {"plan": [5.0, "5", "pro", "pro", True, None, []]}),
    ("w", "view", NOON, {"plan": 50, "none": None}),
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
        folded = 3 if request.param == "partly folded" else len(EVENTS)
        insert_folded(conn, database_url, EVENTS, folded)
    return service


def test_values_have_their_counts_and_types(stored: httpx.Client) -> None:
    answer = ask(stored, "properties/plan/values")
    assert answer["data"] == {
        "property": "plan",
        "events": 5,
        "distinct": 5,
        "rows": [
            {"value": "pro", "type": "text", "events": 3, "users": 3},
            {"value": 5, "type": "number", "events": 2, "users": 2},
            {"value": 50, "type": "number", "events": 1, "users": 1},
            {"value": "5", "type": "text", "events": 1, "users": 1},
            {"value": True, "type": "boolean", "events": 1, "users": 1},
        ],
    }
    meta = answer["meta"]
    assert (meta["start"], meta["end"], meta["source"]) == (None, None, "columns")
    assert meta["definition"] == (
        "The 10 most frequent values of plan, with the number of events at any time up to now "
        "that have them, and of the distinct users who caused these."
    )
    lines = stored.get("/analytics/properties/plan/values?format=csv&limit=2").text.splitlines()
    assert lines == ["value,type,events,users", "pro,text,3,3", "5,number,2,2"]


def test_values_are_found_by_the_beginning_of_their_text(stored: httpx.Client) -> None:
    assert rows(stored, "plan", starts="5") == [(5, 2, 2), (50, 1, 1), ("5", 1, 1)]
    assert rows(stored, "plan", starts="tr") == [(True, 1, 1)]
    assert rows(stored, "plan", starts="P") == []
    assert rows(stored, "plan", limit=1) == [("pro", 3, 3)]
    data = ask(stored, "properties/plan/values", starts="5", limit=1)["data"]
    assert (data["events"], data["distinct"], len(data["rows"])) == (5, 3, 1)


def test_names_are_those_of_filters(stored: httpx.Client) -> None:
    assert rows(stored, 'a/b."c.d"') == [("x", 1, 1)]
    assert rows(stored, "a/b.c.d") == []
    assert rows(stored, '"a\\"b"') == [("y", 1, 1)]


def test_an_unknown_property_has_no_values(stored: httpx.Client) -> None:
    for name in ("plam", "none"):
        answer = ask(stored, f"properties/{name}/values")
        assert (answer["data"]["events"], answer["data"]["rows"]) == (0, [])
        assert answer["meta"]["unknown"] == {"events": [], "properties": [name]}


def test_values_that_only_an_erased_user_had_are_gone(
    stored: httpx.Client, conn: connection
) -> None:
    admin = add_key(conn, "an-admin", "admin", name="admin")
    assert stored.delete("/analytics/users/w", headers=admin).status_code == 200
    assert rows(stored, "plan") == [("pro", 2, 2), (5, 1, 1)]


def test_what_is_no_name_or_parameter_is_refused(shared_service: httpx.Client) -> None:
    for name in ("@event", "a b", "a..b", "%00", ""):
        response = shared_service.get(f"/analytics/properties/{name}/values")
        assert_problem(response, 422, "invalid-parameter", "property")
    for name in ("start", "where", "explain", "property"):
        response = shared_service.get(f"/analytics/properties/plan/values?{name}=x")
        assert_problem(response, 422, "invalid-parameter", "(unknown)")
