"""What is dropped is counted as before, and a question that needs it one by one is told so."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from psycopg2.extensions import connection

from repo.rollups.rollup_writer import RollupWriter
from tests.api.questions import ask
from tests.events import insert
from tests.live_server import running
from tests.problems import assert_problem
from tests.retention import drop
from tests.servers import Cluster
from tests.source_comparison import connected
from tests.wait_until import wait_until
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
HORIZON = datetime(2026, 3, 11, tzinfo=UTC)
DROPPED_DETAIL = "2026-03-11T00:00:00Z"
MARCH = {"start": "2026-03-01", "end": "2026-04-01"}
FINER = {"start": "2026-03-10T12:07:00Z", "end": "2026-04-01"}
COUNTS, TOP, ACTIVE, HISTORY = "event-counts", "top-events", "active-users", "users/u/events"
ROLLED = (
    f"This question needs individual events from before {DROPPED_DETAIL}, which were dropped. "
    "It can still be asked about a range that has ended and begins and ends with a quarter of an "
    "hour, or about one from that time on."
)


@pytest.fixture(scope="module")
def dropped_url(cluster: Cluster) -> str:
    """Two events of before the horizon and two since; each a day apart."""
    url = cluster.migrated_database()
    with connected(url) as conn:
        for hours in (-36, -12, 12, 36):
            insert(conn, ("u", "view", HORIZON + timedelta(hours=hours), {"plan": "pro"}))
        RollupWriter(conn, ZONES).catch_up()
    assert drop(url, ZONES, HORIZON) == 2
    return url


@pytest.fixture
def database_url(cluster: Cluster, dropped_url: str) -> Iterator[str]:
    url = cluster.copy_of(dropped_url)
    yield url
    cluster.drop(url)


def refused(service: httpx.Client, path: str, **params: str) -> str:
    response = service.get(f"/analytics/{path}", params=params)
    assert_problem(response, 409, "events-dropped")
    assert response.json()["horizon"] == DROPPED_DETAIL
    return str(response.json()["detail"])


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def test_ranges_before_the_horizon_are_answered_from_rollups(
    service: httpx.Client, tz: str
) -> None:
    answer = ask(service, COUNTS, **MARCH, tz=tz, interval="day")
    assert (answer["data"]["events"], answer["data"]["users"]) == (4, 1)
    filled = [bucket["start"][:10] for bucket in answer["data"]["series"] if bucket["events"]]
    assert filled == ["2026-03-09", "2026-03-10", "2026-03-11", "2026-03-12"]
    assert ask(service, TOP, **MARCH, tz=tz)["data"]["rows"][0]["events"] == 4
    active = ask(service, ACTIVE, start="2026-03-10", end="2026-03-13", tz=tz)["data"]["series"]
    assert [point["mau"] for point in active] == [1, 1, 1]
    quarter = {"start": "2026-03-10T12:00:00Z", "end": "2026-03-10T12:15:00Z"}
    assert ask(service, COUNTS, **quarter)["data"] == {"events": 1, "users": 1}


@pytest.mark.parametrize("path", [COUNTS, TOP])
def test_what_needs_dropped_events_is_refused(service: httpx.Client, path: str) -> None:
    assert refused(service, path, **FINER) == ROLLED
    assert refused(service, path, start="2026-03-01", end="2026-03-10T12:07:00Z") == ROLLED
    ends_later = {"start": "2026-03-01", "end": "2026-03-12T11:00:01Z"}
    assert ask(service, path, **ends_later)["data"]["events"] == 3
    assert refused(service, path, **FINER) == ROLLED  # by way of what is remembered, too


def test_the_range_before_counts_as_well(service: httpx.Client) -> None:
    finer = {"start": "2026-03-11", "end": "2026-03-12T00:00:01Z", "compare": "previous"}
    assert refused(service, COUNTS, **finer) == ROLLED
    aligned = {"start": "2026-03-11", "end": "2026-03-13", "compare": "previous"}
    assert ask(service, COUNTS, **aligned)["data"]["previous"]["events"] == 2


def test_the_plan_tells_it(service: httpx.Client) -> None:
    explained = ask(service, COUNTS, **FINER, explain="true")["data"]
    assert (explained["horizon"], explained["needs_dropped"]) == (DROPPED_DETAIL, True)
    explained = ask(service, COUNTS, **MARCH, explain="true")["data"]
    assert (explained["horizon"], explained["needs_dropped"]) == (DROPPED_DETAIL, False)


def test_a_history_begins_at_the_horizon(service: httpx.Client) -> None:
    history = ask(service, HISTORY, limit="1", tz="Europe/Berlin")
    assert history["meta"]["start"] == "2026-03-11T01:00:00+01:00"
    assert history["meta"]["end"] is None
    rest = ask(service, HISTORY, tz="Europe/Berlin", cursor=history["meta"]["next_cursor"])
    assert [event["occurred_at"][:10] for event in history["data"] + rest["data"]] == [
        "2026-03-12",
        "2026-03-11",
    ]
    assert rest["meta"]["next_cursor"] is None
    assert refused(service, HISTORY, **MARCH) == (
        f"This question needs individual events from before {DROPPED_DETAIL}, which were dropped. "
        f"It can still be asked about `start={DROPPED_DETAIL}` or later, or without a range about "
        "all stored events."
    )
    assert len(ask(service, HISTORY, start=DROPPED_DETAIL)["data"]) == 2


def test_pages_of_a_history_that_was_longer_end_at_the_horizon(
    service: httpx.Client, database_url: str
) -> None:
    """Their cursors were given before it moved."""
    explicit = {"start": DROPPED_DETAIL, "end": "2026-04-01"}
    history, ranged = (ask(service, HISTORY, limit="1", **more) for more in ({}, explicit))
    assert drop(database_url, ZONES, HORIZON + timedelta(days=1)) == 1
    rest = ask(service, HISTORY, cursor=history["meta"]["next_cursor"])
    assert (rest["data"], rest["meta"]["next_cursor"]) == ([], None)
    assert rest["meta"]["start"] == "2026-03-12T00:00:00Z"
    moved = {**explicit, "cursor": ranged["meta"]["next_cursor"]}
    assert_problem(service.get(f"/analytics/{HISTORY}", params=moved), 409, "events-dropped")


def test_a_history_that_is_kept_is_not_shown_any_more(database_url: str, redis_url: str) -> None:
    """However long answers are kept, and also where PostgreSQL is unreachable."""
    with running(database_url, redis_url, cache_ttl_open_s=3600) as service:
        path = f"/analytics/{HISTORY}"
        wait_until(lambda: service.get(path).headers["x-cache"] == "hit", timeout_s=5)
        assert len(service.get(path).json()["data"]) == 2
        assert drop(database_url, ZONES, HORIZON + timedelta(days=1)) == 1
        wait_until(lambda: len(service.get(path).json()["data"]) == 1, timeout_s=2)
        wait_until(lambda: service.get(path).headers["x-cache"] == "hit", timeout_s=2)


def test_without_rollups_nothing_of_before_is_told(service: httpx.Client, conn: connection) -> None:
    """As in the first minutes after a restore."""
    conn.cursor().execute("update fold_state set cluster = 1")
    for path in (COUNTS, TOP):
        assert "once /readyz reports that there are rollups" in refused(service, path, **MARCH)
        assert ask(service, path, start=DROPPED_DETAIL, end="2026-04-01")["data"]["events"] == 2
    refused(service, ACTIVE, start="2026-04-10", end="2026-04-12")
    (day,) = ask(service, ACTIVE, start="2026-04-11", end="2026-04-12")["data"]["series"]
    assert (day["mau"], day["calendar_month"]) == (0, 0)
    explained = ask(service, COUNTS, **MARCH, explain="true")["data"]
    assert (explained["source"], explained["needs_dropped"]) == ("events", True)
    RollupWriter(conn, ZONES).catch_up()
    assert ask(service, COUNTS, **MARCH)["data"]["events"] == 4


def test_filters_on_dropped_properties_are_refused(service: httpx.Client) -> None:
    assert refused(service, COUNTS, **MARCH, where="plan:pro") == (
        f"This question needs individual events from before {DROPPED_DETAIL}, which were dropped. "
        f"It can still be asked about `start={DROPPED_DETAIL}` or later."
    )
    since = {"start": "2026-03-11", "end": "2026-04-01"}
    previous = refused(service, COUNTS, **since, where="plan:pro", compare="previous")
    assert f"`start={DROPPED_DETAIL}` or later, also of the previous range." in previous
    windows = refused(service, ACTIVE, **since, where="plan:pro")
    assert f"a `start` at least 31 days after {DROPPED_DETAIL}." in windows
    assert ask(service, COUNTS, **since, where="plan:pro")["data"] == {"events": 2, "users": 1}
    finer = {"start": "2026-03-10T11:59:59Z", "end": "2026-04-01"}
    by_name = ask(service, COUNTS, **finer, where="@event:view @user:u")
    assert by_name["data"] == {"events": 3, "users": 1}
    explained = ask(service, COUNTS, **MARCH, where="plan:pro", explain="true")["data"]
    assert (explained["horizon"], explained["needs_dropped"]) == (DROPPED_DETAIL, True)


def test_filters_on_kept_properties_are_exact_for_dropped_events(
    conn: connection, database_url: str, service: httpx.Client
) -> None:
    """Until their properties are dropped as well."""
    later = {"start": "2026-03-11", "end": "2026-04-01", "where": "plan:pro"}
    assert drop(database_url, ZONES, HORIZON + timedelta(days=1), keeps_properties=True) == 1
    assert ask(service, COUNTS, **later)["data"] == {"events": 2, "users": 1}
    insert(conn, ("v", "view", HORIZON + timedelta(hours=30), {"plan": "free"}))
    finer = {**later, "start": "2026-03-11T11:30:00Z", "where": "-plan:free"}
    assert ask(service, COUNTS, **finer)["data"] == {"events": 2, "users": 1}
    assert drop(database_url, ZONES, HORIZON + timedelta(days=1)) == 0
    response = service.get(f"/analytics/{COUNTS}", params={**later, "where": "plan:pro,free"})
    assert_problem(response, 409, "events-dropped")
    assert response.json()["horizon"] == "2026-03-12T00:00:00Z"


def test_first_events_are_those_of_all_time_unless_they_need_dropped_properties(
    service: httpx.Client,
) -> None:
    since: dict[str, str] = {"start": "2026-03-11", "end": "2026-03-13", "periods": "2"}
    assert refused(service, "retention", **since, where="plan:pro") == (
        f"This question needs individual events from before {DROPPED_DETAIL}, which were dropped. "
        f"It can still be asked about `start={DROPPED_DETAIL}` or later with "
        "`entry=first_in_range`, or without properties."
    )
    assert "events without `where`" in refused(
        service, "lifecycle", start="2026-03-11", end="2026-03-13", where="plan:pro"
    )
    # The user's first event was dropped, but not its time and name.
    cohorts = ask(service, "retention", **since)["data"]["cohorts"]
    assert [cohort["users"] for cohort in cohorts] == [0, 0]
    in_range = ask(service, "retention", **since, where="plan:pro", entry="first_in_range")
    assert [cohort["users"] for cohort in in_range["data"]["cohorts"]] == [1, 0]
    earlier = ask(service, "retention", **{**since, "start": "2026-03-09"})["data"]["cohorts"]
    assert [[cohort["users"], cohort["cells"][1]["users"]] for cohort in earlier] == [
        [1, 1],
        [0, 0],
        [0, 0],
        [0, 0],
    ]


def test_rollups_answer_where_columns_lack_events(service: httpx.Client, conn: connection) -> None:
    """The events of a database may have been dropped before an upgrade gave it columns."""
    ask(service, "lifecycle", start="2026-03-11", end="2026-03-12")  # writes the state of columns
    conn.cursor().execute(
        "delete from column_chunks; update column_state set events_from = '2026-03-11T00:00Z'"
    )
    days = {"start": "2026-03-09", "end": "2026-03-13"}
    lifecycle = ask(service, "lifecycle", **days)
    assert lifecycle["meta"]["source"] == "rollups"
    assert "events_without_user" not in lifecycle["meta"]
    assert [(day["new"], day["returning"]) for day in lifecycle["data"]["series"]] == [
        (1, 0),
        (0, 1),
        (0, 1),
        (0, 1),
    ]
    (cohort, *_) = ask(service, "retention", **days, periods="3")["data"]["cohorts"]
    assert (cohort["users"], [cell["users"] for cell in cohort["cells"]]) == (1, [1, 1, 1])
    assert ask(service, "stickiness", **days)["data"]["rows"][3] == {
        "in": 4,
        "users": 1,
        "at_least": 1,
    }
    explained = ask(service, "lifecycle", **days, explain="true")["data"]
    assert (explained["source"], explained["needs_dropped"]) == ("rollups", False)
    assert "events without `where`" in refused(service, "lifecycle", **days, where="@event:view")


def test_users_are_not_new_or_existing_where_that_needs_dropped_properties(
    service: httpx.Client,
) -> None:
    days = {"start": "2026-04-11", "end": "2026-04-12"}
    (day,) = ask(service, ACTIVE, **days, where="plan:pro")["data"]["series"]
    assert (day["mau"], day["new"], day["existing"]) == (0, None, None)
    (day,) = ask(service, ACTIVE, **days, where="@event:view")["data"]["series"]
    assert (day["mau"], day["new"], day["existing"]) == (0, 0, 0)
