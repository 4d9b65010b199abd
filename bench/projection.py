"""Measure queries over more events than can be stored, by generating only their rollups.

The rollup writer folds slots and seals spans of generated batches; the table `events` stays empty.
`python -m bench.projection --events 1000000000`
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
from psycopg2.extensions import connection, cursor

from bench.event_set import DAYS, END, START
from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Database, get_connection
from repo.engine.tail import NO_BACKFILL, BackfillCursor
from repo.events import EventsRepo
from repo.rollups.aggregate import ROW, Rows
from repo.rollups.claim import BatchClaimer
from repo.rollups.fold_state import Progress
from repo.rollups.rollup_writer import RollupWriter
from services.demo_data import NAMES
from services.embedded import embedded_servers
from tests.servers import Cluster
from tests.source_comparison import connected
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
BATCH_SIZE = 500_000
TURNS = 7

_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_EXPONENT = 3
"""Users are a power of a uniform number, so a few of them cause most events."""


def batches(events: int, users: int) -> Iterator[tuple[datetime, Rows]]:
    """Yield batches in order of time, each with the instant at which it ends."""
    random = np.random.default_rng(1)
    count = -(-events // BATCH_SIZE)
    width = (END - START) / count
    for n in range(count):
        start = START + n * width
        yield start + width, _rows(random, users, start, width)


def _rows(random: np.random.Generator, users: int, start: datetime, width: timedelta) -> Rows:
    rows = np.zeros(BATCH_SIZE, ROW)
    first, length = (int(part / timedelta.resolution) for part in (start - _EPOCH_2000, width))
    rows["occurred_at"] = first + np.sort(random.integers(0, length, BATCH_SIZE))
    rows["name_id"] = 1 + (random.random(BATCH_SIZE) ** 2 * len(NAMES)).astype(int)
    rows["ordinal"] = 1 + (random.random(BATCH_SIZE) ** _EXPONENT * users).astype(int)
    return rows


class SyntheticEvents(BatchClaimer):
    """Generated events in place of those that a fold reads."""

    def __init__(self, source: Iterator[tuple[datetime, Rows]]) -> None:
        super().__init__(BATCH_SIZE)
        self._source = source

    def claim(self, cur: cursor, progress: Progress) -> list[Rows]:
        """Return the next batch, as a backfill that has come as far as the batches."""
        progress.backfill_to = progress.visible_snapshot
        until, rows = next(self._source, (None, np.zeros(0, ROW)))
        if until is None:
            progress.backfill_cursor = NO_BACKFILL
            progress.folded_snapshot = progress.visible_snapshot
        else:
            progress.backfill_cursor = BackfillCursor(until.isoformat(), NO_BACKFILL.event_id)
        return [rows]


def fold_all(conn: connection, events: int, users: int) -> tuple[int, float]:
    with conn.cursor() as cur:
        text = (
            "insert into event_names (event_name, name_id) select * from unnest(%s) with ordinality"
        )
        cur.execute(text, (list(NAMES),))
    rollup_writer = RollupWriter(conn, ZONES)
    rollup_writer._claimer = SyntheticEvents(batches(events, users))
    began = time.monotonic()
    folded, reported_at, is_more = 0, began, True
    while is_more:
        step = rollup_writer.step()
        folded, is_more = folded + step.events, step.has_more
        if time.monotonic() - reported_at > 30:
            reported_at = time.monotonic()
            click.echo(f"{folded:,} events after {reported_at - began:.0f} s", err=True)
    return folded, time.monotonic() - began


def questions() -> Iterator[tuple[str, Any]]:
    last = END.date()
    parameters: dict[str, Any] = {"start": last - timedelta(days=30), "end": last}
    for tz in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
        yield f"events per day, {tz}", EventCounts(**parameters, tz=tz, interval="day")
        yield f"top 10, {tz}", TopEvents(**parameters, tz=tz)
        yield f"unique users, {tz}", EventCounts(**parameters, tz=tz)
        yield f"DAU, WAU, MAU, {tz}", ActiveUsers(**parameters, tz=tz)
    yield "unique users of a quarter", EventCounts(start=date(2026, 8, 24), end=last)


def measure_questions(url: str) -> Iterator[tuple[str, float, float]]:
    """Yield each query with its first time in ms, with empty caches, and the median after it."""
    for name, question in questions():
        with closing(Database(url, size=1, waiters=0, acquire_timeout_s=1, name="asker")) as pool:
            durations = []
            for _ in range(TURNS + 1):
                repo = EventsRepo(get_connection(pool, time.monotonic() + 600))
                began = time.perf_counter()
                getattr(repo, f"get_{question.name}")(question)
                durations.append((time.perf_counter() - began) * 1000)
            yield name, durations[0], statistics.median(durations[1:])


@click.command()
@click.option("--events", default=1_000_000_000, show_default=True)
@click.option("--users", default=5_000_000, show_default=True)
def main(events: int, users: int) -> None:
    """Generate and fold the events, then time the queries."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-projection-"))
    folder.chmod(0o711)
    try:
        with embedded_servers(folder) as endpoints:
            url = Cluster(endpoints.database_url).migrated_database()
            with connected(url) as conn:
                folded, seconds = fold_all(conn, events, users)
                click.echo(
                    f"{folded:,} events of {users:,} users over {DAYS} days: {seconds:.0f} s"
                )
                _print_sizes(conn)
            for name, first, median in measure_questions(url):
                click.echo(f"{name}: {first:.1f} ms at first, then {median:.1f}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print_sizes(conn: connection) -> None:
    with conn.cursor() as cur:
        for table in ("slots", "spans"):
            cur.execute(f"select pg_size_pretty(pg_total_relation_size('{table}'))")
            click.echo(f"{table}: {(cur.fetchone() or ('?',))[0]}")


if __name__ == "__main__":
    main()
