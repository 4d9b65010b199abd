"""What questions would cost over events that are too many to store: only their rollups are made.

Slots are folded and spans are sealed as the folder does it, of batches that are made up here; the
table of events stays empty. `python -m tests.benchmarks.projection --events 1000000000`
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
from psycopg2.extensions import connection, cursor

from common.questions import ActiveUsers, EventCounts, TopEvents
from config.database import Database, get_connection
from repo.events import EventsRepo
from repo.rollups import fold as folding
from repo.rollups import folder as folder_module
from repo.rollups.batch import ROW, Batch, Rows
from repo.rollups.fold import Progress
from repo.rollups.folder import Folder
from repo.rollups.waiting import NOT_SWEEPING, Swept
from services.demo import NAMES
from services.embedded import embedded_servers
from tests.benchmarks.event_set import DAYS, END, START
from tests.rollups import connected
from tests.servers import Cluster
from utils.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
AT_ONCE = 500_000
TURNS = 7

_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_EXPONENT = 3
"""Of a power of a uniform number: a few users do most."""


def batches(events: int, users: int) -> Iterator[tuple[datetime, Batch]]:
    """Batches in the order of time, each with the moment that it reaches to."""
    random = np.random.default_rng(1)
    count = -(-events // AT_ONCE)
    width = (END - START) / count
    for n in range(count):
        start = START + n * width
        yield start + width, Batch([_rows(random, users, start, width)], start + width)


def _rows(random: np.random.Generator, users: int, start: datetime, width: timedelta) -> Rows:
    rows = np.zeros(AT_ONCE, ROW)
    first, length = (int(part / timedelta.resolution) for part in (start - _EPOCH_2000, width))
    rows["occurred_at"] = first + np.sort(random.integers(0, length, AT_ONCE))
    rows["name_id"] = 1 + (random.random(AT_ONCE) ** 2 * len(NAMES)).astype(int)
    rows["ordinal"] = 1 + (random.random(AT_ONCE) ** _EXPONENT * users).astype(int)
    return rows


class MadeUp:
    """Takes the place of what a fold reads from the events."""

    def __init__(self, given: Iterator[tuple[datetime, Batch]]) -> None:
        self._given = given

    def fold(self, cur: cursor, progress: Progress, _: Sequence[Rows]) -> int:
        """A sweep that has come as far as the batches have."""
        until, batch = next(self._given, (None, None))
        progress.version = max(progress.version + 1, int(progress.now.timestamp() * 1_000_000))
        progress.sweeping_to = progress.sees
        if until is None or batch is None:
            progress.swept = NOT_SWEEPING
            progress.snapshot = progress.sees
            return 0
        progress.swept = Swept(until.isoformat(), NOT_SWEEPING.event_id)
        folding._add(cur, progress, batch)
        return len(batch)


def fold_all(conn: connection, events: int, users: int) -> tuple[int, float]:
    with conn.cursor() as cur:
        text = (
            "insert into event_names (event_name, name_id) select * from unnest(%s) with ordinality"
        )
        cur.execute(text, (list(NAMES),))
    folder = Folder(conn, ZONES)
    setattr(folder_module, "fold", MadeUp(batches(events, users)).fold)  # noqa: B010
    began = time.monotonic()
    folded, told_at, is_more = 0, began, True
    while is_more:
        step = folder.step()
        folded, is_more = folded + step.events, step.is_more
        if time.monotonic() - told_at > 30:
            told_at = time.monotonic()
            click.echo(f"{folded:,} events after {told_at - began:.0f} s", err=True)
    return folded, time.monotonic() - began


def questions() -> Iterator[tuple[str, Any]]:
    last = END.date()
    asked: dict[str, Any] = {"start": last - timedelta(days=30), "end": last}
    for tz in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
        yield f"events per day, {tz}", EventCounts(**asked, tz=tz, interval="day")
        yield f"top 10, {tz}", TopEvents(**asked, tz=tz)
        yield f"unique users, {tz}", EventCounts(**asked, tz=tz)
        yield f"DAU, WAU, MAU, {tz}", ActiveUsers(**asked, tz=tz)
    yield "unique users of a quarter", EventCounts(start=date(2026, 8, 24), end=last)


def asked(url: str) -> Iterator[tuple[str, float, float]]:
    """The first time in ms, when nothing is remembered, and the median after it."""
    for name, question in questions():
        with closing(Database(url, size=1, waiters=0, acquire_timeout_s=1, name="asker")) as pool:
            took = []
            for _ in range(TURNS + 1):
                repo = EventsRepo(get_connection(pool, time.monotonic() + 600))
                began = time.perf_counter()
                getattr(repo, f"get_{question.name}")(question)
                took.append((time.perf_counter() - began) * 1000)
            yield name, took[0], statistics.median(took[1:])


@click.command()
@click.option("--events", default=1_000_000_000, show_default=True)
@click.option("--users", default=5_000_000, show_default=True)
def main(events: int, users: int) -> None:
    """Fold them, and ask."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-projection-"))
    folder.chmod(0o711)
    try:
        with embedded_servers(folder) as endpoints:
            url = Cluster(endpoints.database_url).migrated_database()
            with connected(url) as conn:
                folded, took = fold_all(conn, events, users)
                click.echo(f"{folded:,} events of {users:,} users over {DAYS} days: {took:.0f} s")
                _tell_sizes(conn)
            for name, first, median in asked(url):
                click.echo(f"{name}: {first:.1f} ms at first, then {median:.1f}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tell_sizes(conn: connection) -> None:
    with conn.cursor() as cur:
        for table in ("slots", "spans"):
            cur.execute(f"select pg_size_pretty(pg_total_relation_size('{table}'))")
            click.echo(f"{table}: {(cur.fetchone() or ('?',))[0]}")


if __name__ == "__main__":
    main()
