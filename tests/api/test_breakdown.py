"""breakdown: values and their types, pairs, missing values, lists, series, and what is refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from repo.engine.grouping import collector
from tests.api.questions import ask
from tests.events import fold, insert
from tests.problems import assert_problem

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PARAMS: dict[str, Any] = {"start": "2025-03-10", "end": "2025-03-12"}
PATH = "/analytics/breakdown"
INSERT = """
insert into events (event_id, event_name, occurred_at, properties)
values (gen_random_uuid(), 'view', %s, %s)
"""


def put(conn: connection, *events: tuple[str, Any], at: datetime = NOON) -> None:
    """Store events by their users and their properties."""
    insert(conn, *((user, "view", at, properties) for user, properties in events))


def rows(service: httpx.Client, **parameters: Any) -> list[tuple[Any, ...]]:
    data = ask(service, "breakdown", **{**PARAMS, **parameters})["data"]
    return [(*row["values"], row["events"], row["users"]) for row in data["rows"]]


def test_rows_and_other_add_up(service: httpx.Client, conn: connection) -> None:
    put(
        conn,
        *[("u", {"plan": "pro"})] * 3,
        ("v", {"plan": "pro"}),
        ("v", {"plan": "free"}),
        ("v", {"plan": "free"}),
        ("w", {"plan": "team"}),
        ("u", {}),
    )
    answer = ask(service, "breakdown", **PARAMS, by="plan", limit=2)
    assert answer["data"] == {
        "by": ["plan"],
        "events": 8,
        "users": 3,
        "rows": [
            {"values": ["pro"], "events": 4, "users": 2, "share": 0.5},
            {"values": ["free"], "events": 2, "users": 1, "share": 0.25},
        ],
        "other": {"rows": 2, "events": 2, "users": 2, "share": 0.25},
        "missing": {"events": 1, "users": 1, "share": 0.125},
    }
    assert (answer["meta"]["source"], answer["meta"]["definition"]) == (
        "columns",
        "The 2 most frequent values of plan in events from 2025-03-10T00:00:00Z up to but "
        "excluding 2025-03-12T00:00:00Z, with the number of events that have them and of the "
        "distinct users who caused these; an event with a list counts for each distinct element.",
    )


def test_values_keep_their_types_and_their_digits(service: httpx.Client, conn: connection) -> None:
    texts = ("5", '"5"', "5.0", "12345678901234567890.5", "1e400", "true", "false", '""', "null")
    for text in [*texts, '{"b": 1}']:
        conn.cursor().execute(INSERT, (NOON, f'{{"a": {text}}}'))
    response = service.get(PATH, params={**PARAMS, "by": "a"})
    assert [
        row.partition("]")[0]
        for row in response.text.partition('"rows":')[2].split('"values":[')[1:]
    ] == ["5", "null", "12345678901234567890.5", "1e400", '""', '"5"', "false", "true"]
    lines = service.get(PATH, params={**PARAMS, "by": "a", "format": "csv"}).text.splitlines()
    assert [",".join(line.split(",")[:3]) for line in lines] == [
        "value,type,events",
        "5,number,2",
        ",missing,2",
        "12345678901234567890.5,number,1",
        "1e400,number,1",
        ",text,1",
        "5,text,1",
        "false,boolean,1",
        "true,boolean,1",
        "(other),other,0",
    ]


def test_pairs_with_a_missing_value_are_rows(service: httpx.Client, conn: connection) -> None:
    put(
        conn,
        ("u", {"plan": "pro", "geo": {"country": "US"}}),
        ("v", {"plan": "pro", "geo": {"country": "US"}}),
        ("u", {"plan": "pro"}),
        ("u", {"geo": {"country": "US"}}),
        ("", {}),
    )
    params = {**PARAMS, "by": ["plan", "geo.country"]}
    assert rows(service, **params) == [
        ("pro", "US", 2, 2),
        ("pro", None, 1, 1),
        (None, "US", 1, 1),
        (None, None, 1, 0),
    ]
    missing = ask(service, "breakdown", **params, limit=1)["data"]["missing"]
    assert missing == {"events": 3, "users": 1, "share": 0.6}
    assert rows(service, **params, where="plan:pro -geo.country:*") == [("pro", None, 1, 1)]
    table = service.get(PATH, params={**params, "limit": 2, "format": "csv"}).text.splitlines()
    assert table == [
        "value,type,second_value,second_type,events,users,share",
        "pro,text,US,text,2,2,0.4",
        "pro,text,,missing,1,1,0.2",
        "(other),other,(other),other,2,1,0.4",
    ]


def test_a_list_counts_in_each_distinct_element(service: httpx.Client, conn: connection) -> None:
    put(conn, ("u", {"tags": ["x", "y", ["x"]]}), ("v", {"tags": "x"}), ("v", {"tags": []}))
    answer = ask(service, "breakdown", **PARAMS, by="tags")
    assert rows(service, by="tags") == [("x", 2, 2), ("y", 1, 1), (None, 1, 1)]
    assert (answer["data"]["events"], answer["meta"]["notes"]) == (
        3,
        [{"property": "tags", "repeated": 1, "used": "each distinct element of a list"}],
    )
    assert "notes" not in ask(service, "breakdown", **PARAMS, by="none")["meta"]


def test_names_of_events_are_values_too(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, *(("u", name, NOON, {"a": 1}) for name in ("buy", "view", "view")))
    fold(database_url)
    insert(conn, ("v", "new", NOON, {"a": 1}), ("v", "Ö", NOON))
    expected = [("view", 1, 2, 1), ("buy", 1, 1, 1), ("new", 1, 1, 1), ("Ö", None, 1, 1)]
    assert rows(service, by=["@event", "a"]) == expected
    assert rows(service, by=["a", "@event"]) == [(b, a, *counts) for a, b, *counts in expected]
    assert rows(service, by="@event", event="new") == [("new", 1, 1)]


def test_series_are_aligned_and_filled_with_zeros(service: httpx.Client, conn: connection) -> None:
    put(conn, ("u", {"a": 1}), ("u", {"a": 1}), ("u", {"a": 2}), ("v", {}))
    put(conn, ("v", {"a": 1}), at=NOON + DAY)
    params = {**PARAMS, "by": "a", "limit": 1, "interval": "day"}
    data = ask(service, "breakdown", **params)["data"]
    (row,) = data["rows"]
    shared = {"partial": False, "cut": False}
    first = {"day": "2025-03-10", "start": "2025-03-10T00:00:00Z", "end": "2025-03-11T00:00:00Z"}
    second = {"day": "2025-03-11", "start": "2025-03-11T00:00:00Z", "end": "2025-03-12T00:00:00Z"}
    assert (row["values"], row["events"], row["users"]) == ([1], 3, 2)
    assert row["series"] == [
        {**first, "events": 2, "users": 1, **shared},
        {**second, "events": 1, "users": 1, **shared},
    ]
    assert data["other"]["series"] == [
        {**first, "events": 2, "users": 2, **shared},
        {**second, "events": 0, "users": 0, **shared},
    ]
    lines = service.get(PATH, params={**params, "format": "ndjson"}).text.splitlines()
    assert [list(json.loads(line).values())[:6] for line in lines][::3] == [
        [1, "number", *first.values(), 2],
        ["(other)", "other", *second.values(), 0],
    ]


def test_no_events_are_no_rows(service: httpx.Client) -> None:
    answer = ask(service, "breakdown", **PARAMS, by="plan")
    none = {"events": 0, "users": 0, "share": 0.0}
    assert answer["data"] == {
        "by": ["plan"],
        "events": 0,
        "users": 0,
        "rows": [],
        "other": {"rows": 0, **none},
        "missing": none,
    }
    assert answer["meta"]["unknown"] == {"events": [], "properties": ["plan"]}


@pytest.mark.parametrize(
    ("query", "parameter", "message"),
    [
        ("", "by", "is required"),
        ("by=a&by=b&by=c", "by", "must be given once or twice"),
        ("by=a&by=%22a%22", "by", "must name two different properties"),
        ("by=", "by", "must be @event or the name of a property"),
        ("by=@user", "by", "must be @event or the name of a property"),
        ("by=a:1", "by", "must be @event or the name of a property"),
        ("by=a+b", "by", "must be @event or the name of a property"),
        ("by=a&limit=0", "limit", "must be at least 1"),
        ("by=a&limit=1000&interval=hour", "limit", "gives more than 100,000 buckets in all rows"),
    ],
)
def test_what_is_refused(service: httpx.Client, query: str, parameter: str, message: str) -> None:
    response = service.get(f"{PATH}?start=2025-01-01&end=2025-02-01&{query}")
    assert_problem(response, 422, "invalid-parameter", parameter)
    assert message in response.json()["errors"][0]["message"]


def test_too_many_distinct_values_are_refused(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(conn, *(("u", {"a": number}) for number in range(5)))
    monkeypatch.setattr(collector, "_MAX_BYTES", 10)
    response = service.get(PATH, params={**PARAMS, "by": "a", "where": "a:>0"})
    assert_problem(response, 422, "too-expensive")
    assert "Cheaper: a shorter range, or a filter" in response.json()["detail"]
