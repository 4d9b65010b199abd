"""The cost of writing columns while events arrive steadily, without waiting for them.

Batches are as large as those of the rollup worker: it writes when 1,000 events wait, or after a
minute, and looks twice a second.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg2
import pyarrow as pa
from psycopg2.extensions import connection

from bench.columns.usage import Usage, total, usage_of
from bench.columns.writers import fold
from bench.event_set import sample, with_times
from bench.stored_set import Stores, copy, fresh_database
from repo.columns.consumer import LAZY_EVENTS, LAZY_S
from repo.columns.store import ColumnStore
from repo.migrate import migrate, migrations
from tests.source_comparison import connected

_POLL_S = 0.5


class Load(NamedTuple):
    """Events that arrive per second, and for how many seconds."""

    per_second: int
    seconds: int

    @property
    def batch_s(self) -> float:
        """The seconds between two batches."""
        return max(_POLL_S, min(LAZY_S, LAZY_EVENTS / self.per_second))


LOADS = (Load(5, 3600), Load(100, 600), Load(5_000, 60))


def steady_figures(stores: Stores, say: Callable[[str], None]) -> dict[str, float]:
    """The write-ahead log, dead rows and time per event, and the chunks at the end, by load."""
    figures: dict[str, float] = {}
    for load in LOADS:
        with fresh_database(stores, "steady") as url:
            _migrate(url)
            figures |= _figures(url, load)
        say(f"columns: {load.per_second:,} events/s for {load.seconds:,} s")
    return figures


def _figures(url: str, load: Load) -> dict[str, float]:
    events = load.per_second * load.seconds
    with connected(url) as conn:
        used = total(list(_usages(conn, load)))
        with conn.cursor() as cur:
            cur.execute("select count(*) from column_chunks")
            (chunks,) = cur.fetchone() or (0,)
    suffix = f"at_{load.per_second}_per_s"
    return {
        f"wal_bytes_per_event_{suffix}": used.wal_bytes / events,
        f"dead_rows_per_million_{suffix}": used.dead_rows / events * 1_000_000,
        f"us_per_event_{suffix}": used.ms * 1000 / events,
        f"chunks_{suffix}": chunks,
    }


def _usages(conn: connection, load: Load) -> Iterator[Usage]:
    """Yield what the columns cost in each batch."""
    store = ColumnStore([])

    def write() -> None:
        while store.maintain(conn, is_lazy=False):
            pass

    for table in _batches(load):
        copy(conn, table)
        fold(conn)
        yield usage_of(conn, write)


def _batches(load: Load) -> Iterator[pa.Table]:
    """Yield the events of each batch."""
    events = sample(load.per_second * load.seconds, seed=5)
    began = datetime.now(UTC) - timedelta(seconds=load.seconds)
    step = timedelta(seconds=1) / load.per_second
    times = [began + n * step for n in range(events.num_rows)]
    timed_events = with_times(events, times)
    count = int(load.batch_s * load.per_second)
    for first in range(0, events.num_rows, count):
        yield timed_events.slice(first, count)


def _migrate(url: str) -> None:
    with closing(psycopg2.connect(url)) as conn:
        migrate(conn, migrations())
        conn.commit()
