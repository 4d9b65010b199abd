"""python -m tests.dashboards.large: how long SQL takes over the set of `make bench`."""

import argparse
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psycopg2

from grafana.__main__ import dashboards
from repo.rollups.folder import Folder
from tests.benchmarks.store import asked_copy, open_stores
from tests.dashboards.asking import Sources
from tests.dashboards.expand import Moment
from tests.rollups import connected
from tests.servers import Cluster, as_role
from utils.zones import zone

ZONES = ("UTC", "Europe/Berlin")
_TIMES = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    with (
        open_stores(given.folder, given.events, print) as stores,
        asked_copy(stores, "dashboards", use_up=False) as url,
    ):
        Cluster(stores.endpoints.database_url)  # makes the logins
        fold(url)
        with connected(as_role(url, "grafana")) as conn:
            for days in (30, 90):
                ask(Sources("", conn), days)


def fold(url: str) -> None:
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        folder = Folder(conn, [zone(name) for name in ZONES])
        began, events, is_more = time.monotonic(), 0, True
        while is_more:
            step = folder.step()
            events, is_more = events + step.events, step.is_more
        folded = time.monotonic()
        days = 0
        while counted := folder.count_numbers():
            days += counted
        print(f"folded {events:,} events in {folded - began:.1f} s", end=", ")
        print(f"counted {days} days in {time.monotonic() - folded:.2f} s")


def ask(sources: Sources, days: int) -> None:
    """Each query that dashboards ask of PostgreSQL, about the days that end with the set."""
    with sources.conn.cursor() as cur:
        cur.execute("select max(starts_at) from daily_users where events > 0")
        (last,) = cur.fetchone() or (datetime.now(UTC),)
    chosen = {"zone": "UTC", "event": "event_name"}
    moment = Moment(last - timedelta(days=days - 1), last, chosen)
    for board in dashboards().values():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                if "rawSql" in target:
                    taken = [sources.ask(target, moment).seconds for _ in range(_TIMES)]
                    print(f"{days} days, {panel['title']}: {1000 * median(taken):.1f} ms")


if __name__ == "__main__":
    main()
