"""numbers: statistics of a property, exact and of all forms of values."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

from repo.engine import number_collector
from tests.api.questions import ask
from tests.events import insert
from tests.problems import assert_problem

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
RANGE = {"start": "2025-03-10", "end": "2025-03-12", "of": "amount"}
PATH = "/analytics/numbers"


def data(service: httpx.Client, **parameters: object) -> Any:
    return ask(service, "numbers", **{**RANGE, **parameters})["data"]


def insert_amounts(conn: connection, *amounts: str, users: Sequence[str] = ("u",)) -> None:
    """Insert an event for each amount, as JSON, on one day; users take turns."""
    rows = [
        (str(uuid4()), users[at % len(users)], "buy", NOON, f'{{"amount": {amount}}}')
        for at, amount in enumerate(amounts)
    ]
    with conn.cursor() as cur:
        execute_values(
            cur,
            "insert into events (event_id, user_id, event_name, occurred_at, properties) values %s",
            rows,
        )


def test_every_number_of_a_list_counts_and_other_values_are_skipped(
    service: httpx.Client, conn: connection
) -> None:
    insert_amounts(conn, "10", "20.50", '[1, 2, "a"]', '"10"', "true", "null", "[]", users="uv")
    answer = ask(service, "numbers", **RANGE)
    assert answer["data"] == {
        "count": 4,
        "users": 2,
        "sum": 33.5,
        "avg": 8.375,
        "min": 1,
        "max": 20.5,
        "p50": 6.0,
        "p95": 18.924999999999997,
        "skipped": {"missing": 2, "text": 2, "boolean": 1},
    }
    assert answer["meta"]["notes"] == [
        {"property": "amount", "used": "number", "skipped": {"text": 2, "boolean": 1}}
    ]
    assert answer["meta"]["source"] == "columns"
    assert answer["meta"]["definition"] == (
        "Statistics (sum, avg, min, max, p50, p95) of all numbers in amount, for events from "
        "2025-03-10T00:00:00Z up to but excluding 2025-03-12T00:00:00Z."
    )


def test_sums_and_extremes_are_written_exactly(service: httpx.Client, conn: connection) -> None:
    insert_amounts(conn, "9007199254740993", "0.1", "0.20", "9223372036854775807", "-1e-30")
    text = service.get(PATH, params=RANGE | {"stat": "sum,min,max"}).text
    assert '"sum":9232379236109516800.299999999999999999999999999999,' in text
    assert '"min":-0.000000000000000000000000000001,"max":9223372036854775807,' in text
    rows = service.get(PATH, params=RANGE | {"stat": "max,min", "format": "csv"}).text
    assert rows == (
        "count,users,max,min,missing,text,boolean\r\n"
        "5,1,9223372036854775807,-0.000000000000000000000000000001,0,0,0\r\n"
    )


def test_numbers_beyond_doubles_have_exact_sums_and_no_average(
    service: httpx.Client, conn: connection
) -> None:
    insert_amounts(conn, "1e400", "1")
    text = service.get(PATH, params=RANGE).text
    assert f'"sum":1{"0" * 399}1,"avg":null,"min":1,"max":1e400,"p50":null,"p95":null' in text


def test_a_bucket_has_the_percentiles_of_its_own_values(
    service: httpx.Client, conn: connection
) -> None:
    rows = [("u", "buy", NOON + DAY * (amount > 3), {"amount": amount}) for amount in range(1, 6)]
    insert(conn, *rows, ("v", "buy", NOON, {"amount": "x"}), ("", "buy", NOON + DAY))
    answer = data(service, interval="day", stat="p50,sum", end="2025-03-13")
    assert answer["p50"] == 3.0
    assert [
        (each["count"], each["users"], each["p50"], each["sum"], each["skipped"]["text"])
        for each in answer["series"]
    ] == [(3, 1, 2.0, 6, 1), (2, 1, 4.5, 9, 0), (0, 0, None, 0, 0)]
    assert [each["skipped"]["missing"] for each in answer["series"]] == [0, 1, 0]
    assert list(answer["series"][0]) == [
        "day", "start", "end", "count", "users", "p50", "sum", "skipped", "partial", "cut",
    ]  # fmt: skip


def test_sums_of_users_come_first_if_requested(service: httpx.Client, conn: connection) -> None:
    at = {1: NOON, 2: NOON + DAY}
    insert(
        conn,
        *[("u", "buy", at[day], {"amount": amount}) for day, amount in ((1, 10), (1, 5), (2, 7))],
        ("v", "buy", at[1], {"amount": [1, 2]}),
        ("w", "buy", at[2], {"amount": -4}),
        ("", "buy", at[1], {"amount": 1000}),
    )
    whole = ask(service, "numbers", **RANGE, per="user", interval="day")
    assert whole["meta"]["events_without_user"] == 1
    answer = whole["data"]
    skipped = {"missing": 0, "text": 0, "boolean": 0}
    total = {"count": 3, "users": 3, "sum": 21, "avg": 7.0, "min": -4, "max": 22, "p50": 3.0,
             "p95": 20.099999999999998, "skipped": skipped}  # fmt: skip
    series = answer.pop("series")
    assert answer == total
    assert [(each["count"], each["sum"], each["p50"]) for each in series] == [
        (2, 18, 9.0),
        (2, 3, 1.5),
    ]


def test_without_numbers_sums_are_zero_and_the_rest_is_null(
    service: httpx.Client, conn: connection
) -> None:
    insert_amounts(conn, '"10"')
    for per in ("event", "user"):
        answer = data(service, per=per, stat="p0,max,sum,avg,min")
        assert answer == {
            "count": 0,
            "users": 0,
            "p0": None,
            "max": None,
            "sum": 0,
            "avg": None,
            "min": None,
            "skipped": {"missing": 0, "text": 1, "boolean": 0},
        }


def test_each_statistic_has_its_own_name(service: httpx.Client, conn: connection) -> None:
    insert_amounts(conn, *map(str, range(1, 1002)))
    answer = data(service, stat=["p99.5,p0", "p50.0", "p100,p0"])
    assert list(answer) == ["count", "users", "p99.5", "p0", "p50", "p100", "skipped"]
    assert list(answer.values())[2:6] == [996.0, 1.0, 501.0, 1001.0]


def test_properties_are_named_as_in_filters(service: httpx.Client, conn: connection) -> None:
    properties = {"cart": {"items": [{"price": 2}, {"price": 3}]}, "cart.items": 7}
    insert(conn, ("u", "buy", NOON, properties))
    assert data(service, of="cart.items.price", stat="sum")["sum"] == 5
    assert data(service, of='"cart.items"', stat="sum")["sum"] == 7
    assert data(service, of="cart.items", stat="sum")["count"] == 0


def test_other_conditions_apply(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("u", "buy", NOON, {"amount": 5, "plan": "pro"}),
        ("u", "buy", NOON, {"amount": 6}),
        ("u", "view", NOON, {"amount": 7, "plan": "pro"}),
    )
    assert data(service, event="buy", where="plan:pro", stat="sum")["sum"] == 5


def test_numbers_are_grouped_by_the_values_of_a_property(
    service: httpx.Client, conn: connection
) -> None:
    insert(
        conn,
        *[("u", "buy", NOON, {"amount": amount, "plan": "pro"}) for amount in (1, 2, 6)],
        *[("v", "buy", NOON + DAY, {"amount": amount, "plan": 5}) for amount in (10, [1, 2])],
        ("v", "buy", NOON, {"plan": ["a", 5, "a"], "amount": 4}),
        ("w", "buy", NOON, {"amount": 100}),
        ("w", "buy", NOON, {"plan": "pro"}),
    )
    answer = data(service, by="plan", stat="sum,p50", limit=2)
    skipped = {"missing": 0, "text": 0, "boolean": 0}
    assert answer["rows"] == [
        {"value": "pro", "count": 3, "users": 1, "sum": 9, "p50": 2.0,
         "skipped": {**skipped, "missing": 1}},
        {"value": 5, "count": 4, "users": 1, "sum": 17, "p50": 3.0, "skipped": skipped},
    ]  # fmt: skip
    other = {"count": 2, "users": 2, "sum": 104, "p50": 52.0, "skipped": skipped}
    assert answer["other"] == {"values": 2, **other}
    assert answer["missing"] == {"count": 1, "users": 1, "sum": 100, "p50": 100.0,
                                 "skipped": skipped}  # fmt: skip
    assert (answer["count"], answer["sum"]) == (8, 126)
    csv = service.get(PATH, params={**RANGE, "by": "plan", "stat": "sum", "format": "csv"}).text
    assert csv.splitlines() == [
        "value,type,count,users,sum,missing,text,boolean",
        "pro,text,3,1,9,1,0,0",
        "5,number,4,1,17,0,0,0",
        "a,text,1,1,4,0,0,0",
        ",missing,1,1,100,0,0,0",
        "(other),other,0,0,0,0,0,0",
    ]


def test_rows_have_series_and_sums_of_users(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        *[("u", "buy", NOON + DAY * day, {"amount": 5, "plan": "pro"}) for day in (0, 0, 1)],
        ("v", "buy", NOON, {"amount": 1, "plan": "free"}),
    )
    answer = data(service, by="plan", stat="max", per="user", interval="day")
    assert [(row["value"], row["max"]) for row in answer["rows"]] == [("pro", 15), ("free", 1)]
    assert [[day["max"] for day in row["series"]] for row in answer["rows"]] == [
        [10, 5],
        [1, None],
    ]
    assert [day["count"] for day in answer["other"]["series"]] == [0, 0]


def test_a_property_that_no_event_has_is_unknown(service: httpx.Client, conn: connection) -> None:
    insert_amounts(conn, "1")
    answer = ask(service, "numbers", **{**RANGE, "of": "amuont"})
    assert answer["meta"]["unknown"] == {"events": [], "properties": ["amuont"]}


@pytest.mark.parametrize(
    ("parameters", "name", "message"),
    [
        ({"of": "amount:5"}, "of", "must be the name of a property, such as amount or cart.total"),
        ({"of": "a b"}, "of", 'a name with other characters is quoted, such as "unit price"'),
        ({"of": "-a"}, "of", "must be the name of a property"),
        ({"of": "@event"}, "of", "must be the name of a property"),
        ({"of": ""}, "of", "must be the name of a property"),
        ({"stat": "median"}, "stat", "must be sum, avg, min, max, or percentiles from p0 to p100"),
        ({"stat": "p101"}, "stat", "at most one decimal, such as p50 or p99.5"),
        ({"stat": "p99.55"}, "stat", "at most one decimal, such as p50 or p99.5"),
        ({"stat": "p05"}, "stat", "at most one decimal, such as p50 or p99.5"),
        ({"stat": "sum,"}, "stat", "separated by commas; the answer always has count and users"),
        ({"stat": ",".join(f"p{n}" for n in range(21))}, "stat", "at most 20 statistics"),
        ({"per": "session"}, "per", "'event' or 'user'"),
        (
            {"start": "2025-01-01", "interval": "hour", "by": "plan", "limit": "1000"},
            "limit",
            "gives more than 100,000 buckets in all rows; use a lower limit",
        ),
    ],
)
def test_bad_parameters_are_refused(
    shared_service: httpx.Client, parameters: dict[str, str], name: str, message: str
) -> None:
    response = shared_service.get(PATH, params=RANGE | parameters)
    assert_problem(response, 422, "invalid-parameter", name)
    assert message in response.json()["errors"][0]["message"]


def test_the_property_is_required(shared_service: httpx.Client) -> None:
    assert_problem(shared_service.get(PATH), 422, "invalid-parameter", "of")


def test_percentiles_of_too_many_numbers_are_refused(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_amounts(conn, "1", "2")
    monkeypatch.setattr(number_collector, "MAX_BYTES", 1)
    assert_problem(service.get(PATH, params=RANGE), 422, "too-expensive")
    assert data(service, stat="sum,avg,min,max")["sum"] == 3


def test_the_numbers_of_values_count_as_well_for_the_limit(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a byte in the total, in its row, and among those without a value."""
    insert_amounts(conn, "1", "2")
    monkeypatch.setattr(number_collector, "MAX_BYTES", 5)
    assert data(service, stat="p50")["p50"] == 1.5
    response = service.get(PATH, params={**RANGE, "stat": "p50", "by": "plan"})
    assert_problem(response, 422, "too-expensive")


def test_known_numbers_of_the_git_history(history: httpx.Client) -> None:
    known = {"of": "insertions", "event": "commit", "stat": "sum,p50,p90,p95,p99"}
    year = ask(history, "numbers", **known, start="2025-01-01", end="2026-01-01")["data"]
    skipped = {"missing": 0, "text": 0, "boolean": 0}
    assert year.pop("users") == 183
    assert round(year.pop("p99"), 9) == 652.2
    assert year == {"count": 2521, "sum": 290278, "p50": 13.0, "p90": 92.0, "p95": 193.0,
                    "skipped": skipped}  # fmt: skip
    known["stat"] = "p95,p99"
    ever = ask(history, "numbers", **known, start="2000-01-01", end="2027-01-01")["data"]
    assert (ever["count"], ever["p95"], ever["p99"]) == (60751, 162.0, 1071.5)
