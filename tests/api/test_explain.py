"""What a question costs is known before it runs, and one that costs too much is refused."""

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions import QUESTIONS
from common.questions.base import Counting
from repo.engine import cost, raw_source, rollup_source
from repo.rollups.rollup_writer import RollupWriter
from tests.api.questions import path_of
from tests.contract.test_questions import EXAMPLES
from tests.events import insert
from tests.problems import assert_problem
from utils.time.zones import zone

RANGE = {"start": "2026-03-01", "end": "2026-04-01"}
UNALIGNED = {"start": "2026-03-01T00:07:00Z", "end": "2026-03-31T00:20:00Z"}
ACROSS = {"start": "2026-03-01T23:55:00Z", "end": "2026-03-02T00:10:00Z"}
COUNTS = "/analytics/event-counts"


@pytest.fixture(autouse=True)
def folded(conn: connection) -> None:
    """Two names on each of three days, two of the events in the first quarter of an hour."""
    days = [f"2026-03-{day:02}T00:05:00Z" for day in (1, 2, 3)]
    insert(conn, *[("u", name, day) for day in days for name in ("view", "buy")])
    RollupWriter(conn, [zone("UTC")]).catch_up()
    insert(conn, ("u", "view", days[0]))


def plan(service: httpx.Client, path: str, **params: str) -> dict[str, object]:
    answer = service.get(path, params={"explain": "true", **params})
    assert answer.status_code == 200, answer.text
    data: dict[str, object] = answer.json()["data"]
    return data


@pytest.mark.parametrize(
    ("path", "asked", "rows", "events"),
    [
        (COUNTS, RANGE, 1, 0),  # a month
        (COUNTS, {**RANGE, "interval": "day"}, 3, 0),  # days; those without events have no rows
        (COUNTS, {**RANGE, "interval": "day", "event": "buy"}, 3, 0),
        (COUNTS, {**UNALIGNED, "interval": "day"}, 2, 2),
        (COUNTS, ACROSS, 0, 2),
        (COUNTS, {**RANGE, "compare": "previous"}, 1, 0),
        ("/analytics/top-events", RANGE, 2, 0),
        ("/analytics/active-users", RANGE, 3 + 9 * (31 + 31), 0),  # with the days before
        ("/analytics/active-users", {**RANGE, "window": "100"}, 3 + 9 * (31 + 100), 0),
    ],
)
def test_the_plan_tells_what_is_read(
    service: httpx.Client, path: str, asked: dict[str, str], rows: int, events: int
) -> None:
    explained = plan(service, path, **asked)
    assert (explained["source"], explained["rows"], explained["events"]) == (
        "rollups",
        rows,
        events,
    )
    assert explained["tail"] == 1
    assert explained["allowed_rows"] == cost.MAX_ROWS


def test_the_month_of_the_first_event_is_one_row(service: httpx.Client, conn: connection) -> None:
    insert(conn, *[("u", "view", f"2026-01-{day}T12:00:00Z") for day in (10, 11, 20)])
    RollupWriter(conn, [zone("UTC")]).catch_up()
    explained = plan(service, COUNTS, start="2026-01-01", end="2026-02-01")
    assert (explained["rows"], explained["events"]) == (1, 0)
    explained = plan(service, COUNTS, start="2026-01-10", end="2026-01-11")
    assert (explained["rows"], explained["events"]) == (1, 0)


def test_the_plan_of_what_is_not_rolled_up_is_an_estimate(
    service: httpx.Client, conn: connection
) -> None:
    conn.cursor().execute("update fold_state set cluster = 1; analyze events")
    explained = plan(service, COUNTS, **RANGE)
    assert (explained["source"], explained["rows"], explained["events"]) == ("events", 0, 7)


@pytest.mark.parametrize(
    ("what", "path", "asked"),
    [
        ("MAX_ROWS", COUNTS, {**RANGE, "interval": "day"}),
        ("MAX_BYTES", "/analytics/active-users", RANGE),
        ("MAX_EDGE_EVENTS", COUNTS, UNALIGNED),
    ],
)
def test_what_reads_too_much_is_refused_and_what_reads_less_is_told(
    service: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    path: str,
    asked: dict[str, str],
) -> None:
    for module in (cost, rollup_source):
        monkeypatch.setattr(module, what, 1, raising=False)
    monkeypatch.setattr(rollup_source, "COST_CHECK_ROWS", 0)
    refused = service.get(path, params=asked)
    assert_problem(refused, 422, "too-expensive")
    assert "Cheaper: a shorter range" in refused.json()["detail"]
    assert plan(service, path, **asked)


def test_windows_are_multiplied_by_days(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 days and the 31 before them, three of which have a row: 9,282 of rows and unions."""
    params = {"start": "2024-01-01", "end": "2026-09-27"}
    monkeypatch.setattr(cost, "MAX_ROWS", 3 + 9 * (1000 + 31))
    assert service.get("/analytics/active-users", params=params).status_code == 200
    longer = {"start": "2023-12-31", "end": "2026-09-27"}
    refused = service.get("/analytics/active-users", params=longer)
    assert_problem(refused, 422, "too-expensive")
    assert "would read 9,291 rows of rollups; the limit is 9,282" in refused.json()["detail"]


def test_the_sets_of_a_long_window_are_held_all_at_once(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one user a set is two bytes at most, of whatever window."""
    explained = plan(service, "/analytics/active-users", **RANGE)
    longer = plan(service, "/analytics/active-users", **RANGE, window="366")
    assert int(str(longer["bytes"])) - int(str(explained["bytes"])) == 2 * (366 - 31)
    monkeypatch.setattr(cost, "MAX_BYTES", int(str(longer["bytes"])) - 1)
    answer = service.get("/analytics/active-users", params={**RANGE, "window": "366"})
    assert_problem(answer, 422, "too-expensive")
    assert service.get("/analytics/active-users", params=RANGE).status_code == 200


def test_sets_that_may_be_large_are_looked_at_before(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (cost, rollup_source):
        monkeypatch.setattr(module, "MAX_BYTES", 10)
    by_hour = {"start": "2026-03-01", "end": "2026-03-20", "interval": "hour"}
    assert_problem(service.get(COUNTS, params=by_hour), 422, "too-expensive")


def test_events_are_counted_one_by_one_up_to_a_limit(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.cursor().execute("update fold_state set cluster = 1; analyze events")
    monkeypatch.setattr(raw_source, "MAX_EVENTS", 6)
    for question in QUESTIONS:
        if issubclass(question, Counting) and EXAMPLES[question.name].source == "rollups":
            path = path_of(question)
            assert_problem(service.get(path, params=RANGE), 422, "too-expensive")


def test_where_events_are_counted_windows_multiply_them(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven events, each of which enters and leaves six windows."""
    conn.cursor().execute("update fold_state set cluster = 1; analyze events")
    assert plan(service, "/analytics/active-users", **RANGE)["events"] == 7 * 12
    monkeypatch.setattr(raw_source, "MAX_EVENTS", 7 * 12 - 1)
    refused = service.get("/analytics/active-users", params=RANGE)
    assert_problem(refused, 422, "too-expensive")
    assert service.get(COUNTS, params=RANGE).status_code == 200


def test_what_is_not_folded_yet_is_not_held_against_a_question(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup_source, "MAX_EDGE_EVENTS", 1)
    insert(conn, *[("u", "view", "2026-03-05T00:00:00Z")] * 10)
    answer = service.get(COUNTS, params=RANGE)
    assert answer.json()["data"] == {"events": 17, "users": 1}


def test_users_of_events_that_are_not_folded(service: httpx.Client, conn: connection) -> None:
    """Those who have an ordinal, those who have none yet, and nobody, on both kinds of edges."""
    users = ["u", "new", "new", "n\u00e9w", "", "", "a longer id, with a comma and a\nline"]
    moments = ("2026-03-01T00:10:00Z", "2026-03-05T00:00:00Z", "2026-03-31T00:17:00Z")
    insert(conn, *((user, "v\u00efew", instant) for user in users for instant in moments))
    answer = service.get(COUNTS, params={**UNALIGNED, "event": "v\u00efew"})
    assert answer.json()["data"] == {"events": 21, "users": 4}
    answer = service.get("/analytics/top-events", params={**UNALIGNED, "event": "v\u00efew"})
    assert answer.json()["data"]["rows"] == [
        {"event_name": "v\u00efew", "events": 21, "users": 4, "share": 1.0}
    ]
