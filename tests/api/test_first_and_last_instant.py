"""The first and the last instant that an event may have, through all that is made of events."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from commands.verify import verify_all
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.api.questions import ask
from tests.dashboards.macros import DashboardView, expand_macros
from tests.database_clock import set_clock
from tests.events import insert
from tests.live_server import running
from tests.retention import drop
from tools.dashboards import analytics as dashboard
from utils.time.zones import zone

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
LAST = datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Edge:
    """An instant, and the local day that it is in."""

    instant: datetime
    tz: str
    day: date
    start: str
    end: str
    """Where the day begins and ends, in UTC."""

    @property
    def midnight(self) -> datetime:
        """The first one of UTC after it."""
        return datetime.combine(self.instant.date(), datetime.min.time(), UTC) + 24 * HOUR


EDGES = [
    Edge(FIRST, "UTC", date(2000, 1, 1), "2000-01-01T00:00:00Z", "2000-01-02T00:00:00Z"),
    Edge(
        FIRST,
        "America/New_York",
        date(1999, 12, 31),
        "1999-12-31T05:00:00Z",
        "2000-01-01T05:00:00Z",
    ),
    Edge(
        FIRST,
        "Pacific/Pago_Pago",
        date(1999, 12, 31),
        "1999-12-31T11:00:00Z",
        "2000-01-01T11:00:00Z",
    ),
    Edge(
        FIRST,
        "Pacific/Kiritimati",
        date(2000, 1, 1),
        "1999-12-31T10:00:00Z",
        "2000-01-01T10:00:00Z",
    ),
    Edge(FIRST, "Asia/Tokyo", date(2000, 1, 1), "1999-12-31T15:00:00Z", "2000-01-01T15:00:00Z"),
    Edge(LAST, "UTC", date(2099, 12, 31), "2099-12-31T00:00:00Z", "2100-01-01T00:00:00Z"),
    Edge(
        LAST,
        "America/New_York",
        date(2099, 12, 31),
        "2099-12-31T05:00:00Z",
        "2100-01-01T05:00:00Z",
    ),
    Edge(
        LAST,
        "Pacific/Pago_Pago",
        date(2099, 12, 31),
        "2099-12-31T11:00:00Z",
        "2100-01-01T11:00:00Z",
    ),
    Edge(
        LAST,
        "Pacific/Kiritimati",
        date(2100, 1, 1),
        "2099-12-31T10:00:00Z",
        "2100-01-01T10:00:00Z",
    ),
    Edge(LAST, "Asia/Tokyo", date(2100, 1, 1), "2099-12-31T15:00:00Z", "2100-01-01T15:00:00Z"),
]


@pytest.fixture(params=EDGES, ids=lambda edge: f"{edge.instant.year} {edge.tz}")
def edge(request: pytest.FixtureRequest) -> Edge:
    param: Edge = request.param
    return param


@pytest.fixture
def service(
    database_url: str, redis_url: str, conn: connection, edge: Edge
) -> Iterator[httpx.Client]:
    """Fifteen hours after the midnight that follows the instant; nothing comes from the cache."""
    set_clock(conn, edge.midnight + 15 * HOUR)
    with running(database_url, redis_url) as client:
        client.headers["Cache-Control"] = "no-cache"
        yield client


def rows(conn: connection, text: str, *values: object) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return cur.fetchall()


def statistics(conn: connection, edge: Edge) -> list[tuple[Any, ...]]:
    """Of the days that have events."""
    text = """
        select day, events, dau, wau, mau, new_or_resurrected_users, starts_at
        from   daily_users
        where  zone = %s
        and    events > 0
    """
    return rows(conn, text, edge.tz)


def by_name(conn: connection, edge: Edge) -> list[tuple[Any, ...]]:
    text = "select day, event_name, events, users from daily_events where zone = %s order by 2"
    return rows(conn, text, edge.tz)


def panel_rows(conn: connection, edge: Edge, query: str) -> list[tuple[Any, ...]]:
    """What a panel of the dashboard gets, over two days around the instant."""
    view = DashboardView(edge.instant - 24 * HOUR, edge.instant + 24 * HOUR, {"zone": edge.tz})
    return rows(conn, expand_macros({"rawSql": dashboard.SQL[query]}, view))


def assert_all_say(
    service: httpx.Client, conn: connection, edge: Edge, url: str, names: list[str]
) -> None:
    """One event of one user for each name, in every door."""
    n, day = len(names), edge.day
    start = datetime.fromisoformat(edge.start)
    assert statistics(conn, edge) == [(day, n, n, n, n, n, start)]
    assert by_name(conn, edge) == [(day, name, 1, 1) for name in names]
    assert [row[:2] for row in panel_rows(conn, edge, "analytics_days") if row[1]] == [
        (f"{day:%a %Y-%m-%d}", n)
    ]
    assert [row[0] for row in panel_rows(conn, edge, "analytics_top")] == names
    params = {"start": edge.start, "end": edge.end, "tz": edge.tz}
    counts = ask(service, "event-counts", **params, interval="day")["data"]
    assert (counts["events"], counts["users"]) == (n, n)
    assert [(b["start"][:10], b["events"]) for b in counts["series"]] == [(str(day), n)]
    top = ask(service, "top-events", **params)["data"]["rows"]
    assert [(row["event_name"], row["events"], row["users"]) for row in top] == [
        (name, 1, 1) for name in names
    ]
    (active,) = ask(service, "active-users", **params)["data"]["series"]
    assert (active["date"], active["dau"], active["mau"]) == (str(day), n, n)
    assert verify_all(url, [zone(edge.tz)]).listed == []


def test_it_passes_through_all_paths(
    service: httpx.Client, conn: connection, database_url: str, edge: Edge
) -> None:
    """Fold, statistics, dashboards, questions, verify, rebuild, erase, retain."""
    insert(conn, ("a", "buy", edge.instant), ("b", "view", edge.instant))
    writer = RollupWriter(conn, [zone(edge.tz)])
    assert (writer.catch_up(), writer.failed_days) == (2, [])
    assert_all_say(service, conn, edge, database_url, ["buy", "view"])
    history = ask(service, "users/a/events", tz=edge.tz)["data"]
    assert [event["occurred_at"][:10] for event in history] == [str(edge.day)]
    conn.cursor().execute("update day_users set events = 77")
    assert writer.rebuild() == 2
    assert_all_say(service, conn, edge, database_url, ["buy", "view"])
    assert EraseRepo(conn).erase("a").events == 1
    writer.catch_up()  # columns may lack an erasure for a day, which has passed on this clock
    assert ask(service, "users/a/events", tz=edge.tz)["data"] == []
    assert_all_say(service, conn, edge, database_url, ["view"])
    assert drop(database_url, [zone(edge.tz)], edge.midnight) == 1
    assert_all_say(service, conn, edge, database_url, ["view"])
    assert writer.rebuild() == 0
    assert_all_say(service, conn, edge, database_url, ["view"])
