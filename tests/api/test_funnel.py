"""funnel: who counts at which step, when windows are open, and what is refused."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.database_clock import set_clock
from tests.events import fold, insert
from tests.problems import assert_problem
from tests.retention import drop
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DAYS = {"start": "2025-03-10", "end": "2025-03-12"}
SIGN_UP_AND_BUY = ["sign_up", "buy"]


def funnel(service: httpx.Client, steps: Sequence[str] = SIGN_UP_AND_BUY, **others: Any) -> Any:
    return ask(service, "funnel", step=list(steps), **{**DAYS, **others})["data"]


def reached(
    service: httpx.Client, steps: Sequence[str] = SIGN_UP_AND_BUY, **others: Any
) -> list[int]:
    return [step["users"] for step in funnel(service, steps, **others)["steps"]]


def test_users_count_at_each_step_that_they_reach(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON),
        ("a", "buy", NOON + 10 * MINUTE),
        ("b", "sign_up", NOON + HOUR),
        ("b", "buy", NOON + HOUR + 30 * MINUTE),
        ("c", "sign_up", NOON),
        ("d", "buy", NOON),
        ("", "sign_up", NOON),
    )
    assert funnel(service) == {
        "entered": 3,
        "converted": 2,
        "rate": 2 / 3,
        "open": 0,
        "closed": {"entered": 3, "converted": 2, "rate": 2 / 3},
        "seconds": {"avg": 1200, "p50": 1200, "p90": 1680},
        "steps": [
            {
                "step": 1,
                "users": 3,
                "of_first": 1,
                "of_previous": None,
                "dropped": 1,
                "open": 0,
                "seconds": None,
            },
            {
                "step": 2,
                "users": 2,
                "of_first": 2 / 3,
                "of_previous": 2 / 3,
                "dropped": 0,
                "open": 0,
                "seconds": {"avg": 1200, "p50": 1200, "p90": 1680},
            },
        ],
    }


def test_nobody_enters(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "buy", NOON))
    data = funnel(service)
    assert (data["entered"], data["converted"], data["rate"]) == (0, 0, None)
    assert data["closed"] == {"entered": 0, "converted": 0, "rate": None}
    assert data["seconds"] == {"avg": None, "p50": None, "p90": None}
    assert [step["of_first"] for step in data["steps"]] == [None, None]


def test_what_follows_may_be_after_the_range(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON + DAY),
        ("a", "buy", NOON + 5 * DAY),
        ("b", "sign_up", NOON - DAY),
        ("b", "buy", NOON),
        ("c", "sign_up", NOON + 2 * DAY),
        ("c", "buy", NOON + 2 * DAY),
    )
    assert reached(service) == [1, 1]
    assert reached(service, within="4d") == [1, 1]
    assert reached(service, within="345599s") == [1, 0]


def test_steps_have_conditions_and_where_applies_to_all(
    service: httpx.Client, conn: connection
) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON, {"plan": "pro", "country": "DE"}),
        ("a", "buy", NOON + HOUR, {"country": "DE"}),
        ("b", "sign_up", NOON, {"plan": "free", "country": "DE"}),
        ("b", "buy", NOON + HOUR, {"country": "US"}),
    )
    assert reached(service, ["sign_up plan:pro", "buy"]) == [1, 1]
    assert reached(service, ["*", "* -plan:*"]) == [2, 2]
    assert reached(service, ["sign_up,buy", "sign_up,buy"]) == [2, 2]
    assert reached(service, where="country:DE") == [2, 1]
    assert reached(service, event="sign_up") == [2, 0]


def test_events_of_rollups_and_of_the_tail_are_one_sequence(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, ("a", "buy", NOON + HOUR), ("b", "sign_up", NOON))
    fold(database_url)
    insert(conn, ("a", "sign_up", NOON), ("b", "buy", NOON + HOUR))
    assert reached(service) == [2, 2]


def test_windows_that_have_not_ended_are_open(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("early", "sign_up", NOON),
        ("late", "sign_up", NOON + HOUR + MINUTE),
        ("late", "buy", NOON + 2 * HOUR),
        ("open", "sign_up", NOON + 2 * HOUR),
        ("ended", "sign_up", NOON + 2 * HOUR),
        ("ended", "refund", NOON + 2 * HOUR + MINUTE),
        ("future", "sign_up", NOON + 4 * HOUR),
    )
    set_clock(conn, NOON + 3 * HOUR)
    answer = ask(service, "funnel", step=SIGN_UP_AND_BUY, **DAYS, within="2h", exclude="refund")
    data = answer["data"]
    assert (data["entered"], data["converted"], data["open"]) == (4, 1, 1)
    assert data["closed"] == {"entered": 1, "converted": 0, "rate": 0}
    assert [(step["dropped"], step["open"]) for step in data["steps"]] == [(3, 1), (0, 0)]
    assert answer["meta"]["complete_until"].startswith("2025-03-10T15:00:")


def test_an_excluded_event_between_two_steps_ends_a_chain(
    service: httpx.Client, conn: connection
) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON),
        ("a", "refund", NOON + MINUTE),
        ("a", "buy", NOON + 2 * MINUTE),
        ("b", "sign_up", NOON),
        ("b", "refund", NOON + MINUTE),
        ("b", "sign_up", NOON + 2 * MINUTE),
        ("b", "buy", NOON + 3 * MINUTE),
    )
    assert reached(service) == [2, 2]
    assert reached(service, exclude="refund") == [2, 1]
    assert funnel(service, exclude="refund")["seconds"]["avg"] == 60


def test_strict_steps_follow_each_other_directly(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON),
        ("a", "ping", NOON + MINUTE),
        ("a", "buy", NOON + 2 * MINUTE),
        ("b", "sign_up", NOON),
        ("b", "buy", NOON + MINUTE),
    )
    assert reached(service, order="strict") == [2, 1]
    assert reached(service, order="strict", ignore="ping") == [2, 2]
    assert reached(service, order="strict", where="-@event:ping") == [2, 2]


def test_in_any_order_step_k_is_the_kth_event(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("a", "buy", NOON),
        ("a", "sign_up", NOON + MINUTE),
        ("b", "buy", NOON),
        ("b", "buy", NOON + MINUTE),
        ("c", "view", NOON, {"plan": "pro"}),
        ("c", "view", NOON + MINUTE),
    )
    assert reached(service, order="any") == [2, 1]
    assert reached(service) == [1, 0]
    assert reached(service, ["view", "view plan:pro"], order="any") == [1, 1]


def test_events_of_a_chain_have_the_same_values(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON, {"item": 5, "shop": "x"}),
        ("a", "buy", NOON + MINUTE, {"item": "5", "shop": "x"}),
        ("a", "buy", NOON + 2 * MINUTE, {"item": 5.0, "shop": "y"}),
        ("b", "sign_up", NOON, {"shop": "x"}),
        ("b", "buy", NOON + MINUTE, {"shop": "x"}),
        ("c", "sign_up", NOON, {"item": ["p", "q"], "shop": "x"}),
        ("c", "buy", NOON + MINUTE, {"item": "p", "shop": "x"}),
    )
    assert reached(service) == [3, 3]
    assert reached(service, same="item") == [3, 2]
    assert funnel(service, same="item")["seconds"]["p90"] == 114
    assert reached(service, same=["item", "shop"]) == [3, 1]
    assert reached(service, same="shop") == [3, 3]
    assert reached(service, same="item", order="any") == [3, 2]
    assert reached(service, same="item", order="strict") == [3, 1]


def test_sessions_are_counted_instead_of_reached(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON),
        ("a", "ping", NOON + 30 * MINUTE),
        ("a", "buy", NOON + HOUR),
        ("a", "sign_up", NOON + 3 * HOUR),
        ("a", "buy", NOON + 3 * HOUR + 31 * MINUTE),
    )
    assert reached(service) == [1, 1]
    assert reached(service, per="session") == [2, 1]
    assert reached(service, per="session", gap="31m") == [2, 2]
    assert reached(service, per="session", gap="29m") == [2, 0]


def test_rows_are_by_the_value_at_a_step(service: httpx.Client, conn: connection) -> None:
    plans = {"a": "pro", "b": "pro", "c": 5, "d": "5", "e": True, "f": None}
    insert(conn, *((user, "sign_up", NOON, {"plan": plan}) for user, plan in plans.items()))
    insert(conn, ("a", "buy", NOON + MINUTE, {"plan": "team"}))
    data = funnel(service, by="plan")
    assert [(row["value"], row["entered"], row["converted"]) for row in data["rows"]] == [
        ("pro", 2, 1),
        (5, 1, 0),
        ("5", 1, 0),
        (True, 1, 0),
    ]
    assert (data["other"]["entered"], data["missing"]["entered"]) == (0, 1)
    data = funnel(service, by="plan", limit=1)
    assert [row["value"] for row in data["rows"]] == ["pro"]
    assert (data["other"]["entered"], data["missing"]["entered"]) == (3, 1)
    data = funnel(service, by="plan", by_step=2)
    assert [(row["value"], row["entered"]) for row in data["rows"]] == [("team", 1)]
    assert data["missing"]["entered"] == 5
    params: dict[str, Any] = {**DAYS, "step": SIGN_UP_AND_BUY, "by": "plan", "limit": 1}
    lines = service.get("/analytics/funnel", params=params | {"format": "csv"}).text.splitlines()
    assert [line.split(",")[:4] for line in lines] == [
        ["value", "type", "step", "users"],
        ["pro", "text", "1", "2"],
        ["pro", "text", "2", "1"],
        ["(other)", "other", "1", "3"],
        ["(other)", "other", "2", "0"],
        ["", "missing", "1", "1"],
        ["", "missing", "2", "0"],
    ]


def test_series_are_by_the_start_of_the_reported_chain(
    service: httpx.Client, conn: connection
) -> None:
    insert(
        conn,
        ("a", "sign_up", NOON),
        ("a", "sign_up", NOON + DAY),
        ("a", "buy", NOON + DAY + 2 * HOUR),
        ("b", "sign_up", NOON),
    )
    set_clock(conn, NOON + 2 * DAY)
    data = funnel(service, interval="day", within="25h", end="2025-03-13")
    assert [
        (each["day"], each["users"], each["open"], each["partial"]) for each in data["series"]
    ] == [
        ("2025-03-10", [1, 0], 0, False),
        ("2025-03-11", [1, 1], 0, True),
        ("2025-03-12", [0, 0], 0, True),
    ]
    assert [(each["entered"], each["rate"]) for each in data["series"]] == [
        (1, 0),
        (1, 1),
        (0, None),
    ]
    data = funnel(service, interval="day", within="24h", end="2025-03-13", complete="true")
    assert [each["day"] for each in data["series"]] == ["2025-03-10", "2025-03-11"]


def test_answers_say_what_they_count(service: httpx.Client, conn: connection) -> None:
    insert(conn, *((user, "sign_up", NOON, {"plan": "pro"}) for user in ("a", "")))
    meta = ask(service, "funnel", step=["sign_up plan:pro", "by"], within="24h", **DAYS)["meta"]
    assert meta["definition"] == (
        "The number of users with a chain of different events that match the steps in order: "
        "`sign_up plan:pro`, then `by`. The first event is from 2025-03-10T00:00:00Z up to but "
        "excluding 2025-03-12T00:00:00Z, and the others are of the same user and follow within "
        "1d, whatever is between them. Each user counts once, up to the furthest step that any "
        "of its chains reaches."
    )
    assert meta["source"] == "columns"
    assert meta["events_without_user"] == 1
    assert meta["unknown"] == {"events": ["by"], "properties": []}


def test_steps_are_rows_of_csv(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("a", "sign_up", NOON), ("a", "buy", NOON + MINUTE))
    params = {**DAYS, "step": SIGN_UP_AND_BUY, "format": "csv"}
    assert service.get("/analytics/funnel", params=params).text.splitlines() == [
        "step,users,of_first,of_previous,dropped,open,seconds_avg,seconds_p50,seconds_p90",
        "1,1,1.0,,0,0,,,",
        "2,1,1.0,1.0,0,0,60.0,60.0,60.0",
    ]


@pytest.mark.parametrize(
    ("query", "parameter", "message"),
    [
        ("", "step", "is required"),
        ("step=a", "step", "must be given at least 2 times"),
        ("&".join(["step=a"] * 11), "step", "must be given at most 10 times"),
        ("step=a&step=a b", "step", "at 3: a condition is written name:value; quote an event name"),
        ("step=a&step=b&within=1y", "within", "must be a number followed by s, m, h, d or w"),
        ("step=a&step=b&within=367d", "within", "must be from 1s to 366d"),
        ("step=a&step=b&ignore=c", "ignore", "needs order=strict"),
        ("step=a&step=b&gap=30m", "gap", "needs per=session"),
        ("step=a&step=b&gap=25h&per=session", "gap", "must be from 1m to 24h"),
        ("step=a&step=b&same=@user", "same", "must be the name of a property"),
        ("step=a&step=b&same=a&same=b&same=c&same=d", "same", "at most 3"),
    ],
)
def test_what_is_refused(
    shared_service: httpx.Client, query: str, parameter: str, message: str
) -> None:
    response = shared_service.get(f"/analytics/funnel?{query}")
    assert_problem(response, 422, "invalid-parameter", parameter)
    assert message in response.json()["errors"][0]["message"]


def test_dropped_events_are_never_left_out(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, ("a", "sign_up", NOON), ("a", "buy", NOON + DAY))
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 3, 11, tzinfo=UTC))
    assert reached(service) == [1, 1]  # columns keep users, times and names
    params = {**DAYS, "step": ["sign_up", "buy -plan:free"]}
    response = service.get("/analytics/funnel", params=params)
    assert_problem(response, 409, "events-dropped")
    assert "`start=2025-03-11T00:00:00Z` or later" in response.json()["detail"]
    assert reached(service, params["step"], start="2025-03-11") == [0, 0]
