"""Times the SQL of the dashboards on the event set of `make bench`.

`python -m tests.dashboards.large_set --folder build/bench-10000000`
"""

import argparse
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psycopg2

from bench.stored_set import open_stores, working_copy
from repo.rollups.rollup_writer import RollupWriter
from tests.dashboards.macros import DashboardView
from tests.dashboards.panel_data import Sources
from tests.servers import Cluster, as_role
from tests.source_comparison import connected
from tools.dashboards.__main__ import dashboards
from utils.time.zones import zone

ZONES = ("UTC", "Europe/Berlin")
_REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    with (
        open_stores(options.folder, options.events, print) as stores,
        working_copy(stores, "dashboards", use_up=False) as url,
    ):
        Cluster(stores.endpoints.database_url)  # enables the logins of the roles
        fold(url)
        with connected(as_role(url, "grafana")) as conn:
            for days in (30, 90):
                ask(Sources("", conn), days)


def fold(url: str) -> None:
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        rollup_writer = RollupWriter(conn, [zone(name) for name in ZONES])
        began, events, is_more = time.monotonic(), 0, True
        while is_more:
            step = rollup_writer.step()
            events, is_more = events + step.events, step.has_more
        folded = time.monotonic()
        days = 0
        while counted := rollup_writer.maintain():
            days += counted["days"]
        print(f"folded {events:,} events in {folded - began:.1f} s", end=", ")
        print(f"counted {days} days in {time.monotonic() - folded:.2f} s")


def ask(sources: Sources, days: int) -> None:
    """Run each SQL query of the dashboards on the last days of the set, and print its time."""
    with sources.conn.cursor() as cur:
        cur.execute("select max(starts_at) from daily_users where events > 0")
        (last,) = cur.fetchone() or (datetime.now(UTC),)
    variables = {"zone": "UTC", "event": "event_name"}
    view = DashboardView(last - timedelta(days=days - 1), last, variables)
    for board in dashboards().values():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                if "rawSql" in target:
                    durations = [sources.ask(target, view).seconds for _ in range(_REPEATS)]
                    print(f"{days} days, {panel['title']}: {1000 * median(durations):.1f} ms")


if __name__ == "__main__":
    main()
