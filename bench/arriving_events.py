"""Insert events of the current time in small batches, EVENTS_PER_SECOND, until it is stopped."""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from uuid import uuid4

from bench.cases import EVENTS_PER_SECOND
from bench.event_set import sample
from bench.serving import running
from tests.source_comparison import connected

_INTERVAL_S = 0.05
_SAMPLE_SIZE = 100_000
_COPY = "copy events (event_id, user_id, event_name, occurred_at, properties) from stdin"


@contextmanager
def event_stream(database_url: str) -> Iterator[None]:
    """Insert events until the end of the block.

    Raises: AssertionError if fewer than 80 % of the intended rate were inserted.
    """
    arguments = [sys.executable, "-m", "bench.arriving_events", database_url]
    with running(arguments, dict(os.environ), sys.stderr.fileno()):
        time.sleep(3)  # the process generates its sample before it inserts
        began, before = time.monotonic(), _count(database_url)
        yield
        arrival_rate = (_count(database_url) - before) / (time.monotonic() - began)
        assert arrival_rate > EVENTS_PER_SECOND * 0.8, f"only {arrival_rate:,.0f} events/s arrived"


def _count(database_url: str) -> int:
    with connected(database_url) as conn, conn.cursor() as cur:
        cur.execute("select count(*) from events")
        (count,) = cur.fetchone() or (0,)
        return int(count)


def main(database_url: str) -> None:
    """Insert batches on schedule; after a late batch the next one follows at once."""
    rows = cycle(_rows())
    size = int(EVENTS_PER_SECOND * _INTERVAL_S)
    with connected(database_url) as conn, conn.cursor() as cur:
        due = time.monotonic()
        while True:
            cur.copy_expert(_COPY, _batch([next(rows) for _ in range(size)]))
            due += _INTERVAL_S
            time.sleep(max(0.0, due - time.monotonic()))


def _rows() -> list[tuple[str, str, str]]:
    columns = sample(_SAMPLE_SIZE, seed=2)
    names = ("user_id", "event_name", "properties")
    return list(zip(*(columns[name].to_pylist() for name in names), strict=True))


def _batch(rows: list[tuple[str, str, str]]) -> io.StringIO:
    now = datetime.now(UTC).isoformat()
    return io.StringIO("".join(f"{uuid4()}\t{u}\t{n}\t{now}\t{p}\n" for u, n, p in rows))


if __name__ == "__main__":
    main(sys.argv[1])
