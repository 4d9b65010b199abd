"""Lists of the users behind the numbers of funnels, retention, lifecycle and stickiness."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.events import insert
from tests.problems import assert_problem

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MARCH = {"start": "2025-03-10", "end": "2025-03-17"}
PRO, FREE = {"plan": "pro"}, {"plan": "free"}
STEPS: dict[str, Any] = {"step": ["view", "buy"], "within": "24h"}


@pytest.fixture(autouse=True)
def events(conn: connection) -> None:
    insert(
        conn,
        ("ann", "view", NOON, PRO),
        ("ann", "buy", NOON + HOUR, PRO),
        ("bob", "view", NOON + DAY, FREE),
        ("bob", "view", NOON + DAY + 3 * HOUR, FREE),
        ("bob", "buy", NOON + 3 * DAY, FREE),
        ("cat", "view", NOON - 9 * DAY),
        ("cat", "view", NOON + DAY),
        ("cat", "buy", NOON + DAY + HOUR),
        ("", "view", NOON),
    )


def users(service: httpx.Client, question: str, cell: str = "", **more: Any) -> list[str]:
    """The users of a cell, whose number the answer has in `count`."""
    params = {**MARCH, "list": "users", **({"cell": cell} if cell else {}), **more}
    answer = ask(service, question, **params)
    assert answer["meta"]["count"] == len(answer["data"])
    return [user["user_id"] for user in answer["data"]]


def test_funnel(service: httpx.Client) -> None:
    assert users(service, "funnel", **STEPS) == ["ann", "bob", "cat"]
    assert users(service, "funnel", "step:2", **STEPS) == ["ann", "cat"]
    assert users(service, "funnel", "step:1 @count:dropped", **STEPS) == ["bob"]
    assert users(service, "funnel", "step:1 @count:open", **STEPS) == []
    by_plan: dict[str, Any] = {**STEPS, "by": "plan", "limit": "1"}
    assert users(service, "funnel", "plan:free", **by_plan) == ["bob"]
    assert users(service, "funnel", "step:2 plan:pro", **by_plan) == ["ann"]
    assert users(service, "funnel", "@row:other", **by_plan) == ["ann"]
    assert users(service, "funnel", "step:2 @row:missing", **by_plan) == ["cat"]
    by_day: dict[str, Any] = {**STEPS, "interval": "day"}
    assert users(service, "funnel", "step:1 start:2025-03-11", **by_day) == ["bob", "cat"]
    assert users(service, "funnel", "step:2 start:2025-03-11", **by_day) == ["cat"]


def test_sessions_of_a_funnel(service: httpx.Client) -> None:
    params = {**MARCH, **STEPS, "per": "session", "list": "users"}
    answer = ask(service, "funnel", **params)
    assert answer["data"] == [
        {"user_id": "ann", "sessions": 1},
        {"user_id": "bob", "sessions": 2},
        {"user_id": "cat", "sessions": 1},
    ]
    assert answer["meta"]["count"] == 4
    text = service.get("/analytics/funnel", params={**params, "format": "csv"})
    assert text.text.splitlines()[:3] == ["user_id,sessions", "ann,1", "bob,2"]


def test_retention(service: httpx.Client) -> None:
    assert users(service, "retention") == ["ann", "bob"]
    assert users(service, "retention", "cohort:2025-03-11") == ["bob"]
    assert users(service, "retention", "cohort:2025-03-11 period:2") == ["bob"]
    assert users(service, "retention", "cohort:2025-03-11 period:1") == []
    each: dict[str, Any] = {"entry": "each", "by": "plan"}
    assert users(service, "retention", "cohort:2025-03-11", **each) == ["bob", "cat"]
    assert users(service, "retention", "cohort:2025-03-11 plan:free", **each) == ["bob"]
    assert users(service, "retention", "cohort:2025-03-11 @row:missing", **each) == ["cat"]
    elapsed = {"clock": "24h"}
    assert users(service, "retention", "cohort:2025-03-11 period:0", **elapsed) == ["bob"]


def test_lifecycle(service: httpx.Client) -> None:
    assert users(service, "lifecycle", "start:2025-03-11 status:new") == ["bob"]
    assert users(service, "lifecycle", "start:2025-03-11 status:resurrected") == ["cat"]
    assert users(service, "lifecycle", "start:2025-03-11 status:dormant") == ["ann"]
    assert users(service, "lifecycle", "start:2025-03-11") == ["bob", "cat"]


def test_stickiness(service: httpx.Client) -> None:
    assert users(service, "stickiness", "in:1") == ["ann", "cat"]
    assert users(service, "stickiness", "in:2") == ["bob"]
    assert users(service, "stickiness", "in:1 @count:at_least") == ["ann", "bob", "cat"]
    assert users(service, "stickiness") == ["ann", "bob", "cat"]


def test_new_and_existing_users_of_a_day(service: httpx.Client) -> None:
    assert users(service, "active-users", "date:2025-03-11 @count:new") == ["bob"]
    assert users(service, "active-users", "date:2025-03-11 @count:existing") == ["cat"]


def test_pages_are_those_of_the_first_snapshot(service: httpx.Client, conn: connection) -> None:
    params = {**MARCH, **STEPS, "list": "users", "cell": "step:2", "page_size": "1"}
    first = ask(service, "funnel", **params)
    assert (first["data"], first["meta"]["count"]) == ([{"user_id": "ann"}], 2)
    insert(conn, ("bob", "buy", NOON + DAY + 4 * HOUR))
    rest = ask(service, "funnel", **params, cursor=first["meta"]["next_cursor"])
    assert (rest["data"], rest["meta"]["count"]) == ([{"user_id": "cat"}], 2)
    assert rest["meta"]["next_cursor"] is None
    assert users(service, "funnel", "step:2", **STEPS) == ["ann", "bob", "cat"]


@pytest.mark.parametrize(
    ("question", "params", "cell"),
    [
        ("funnel", STEPS, "step:3"),
        ("funnel", STEPS, "plan:pro"),
        ("retention", {}, "period:1"),
        ("retention", {}, "cohort:2025-03-17"),
        ("lifecycle", {}, "status:new"),
        ("lifecycle", {}, "start:2025-03-11 status:lost"),
        ("stickiness", {}, "in:8"),
    ],
)
def test_cells_that_an_answer_does_not_have_are_refused(
    service: httpx.Client, question: str, params: dict[str, Any], cell: str
) -> None:
    response = service.get(
        f"/analytics/{question}", params={**MARCH, **params, "list": "users", "cell": cell}
    )
    assert_problem(response, 422, "invalid-parameter", "cell")
