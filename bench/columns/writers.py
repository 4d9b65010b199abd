"""Measure how fast events are folded and written to columns, each in a process of its own."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg2
from psycopg2.extensions import connection

from bench.cases import TIME_ZONES
from bench.serving import ROOT
from repo.columns.store import ColumnStore
from repo.rollups.rollup_writer import RollupWriter
from utils.time.zones import zone


class WriterRun(msgspec.Struct, frozen=True):
    """The time and the peak memory of a process."""

    seconds: float
    max_mb: float


def run_writer(kind: str, url: str) -> WriterRun:
    """Write all events of a database in a new process: `fold`, and then `columns`."""
    arguments = [sys.executable, "-m", "bench.columns.writers", kind, url]
    output = subprocess.run(arguments, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
    return msgspec.json.decode(output, type=WriterRun)


def fold(conn: connection) -> None:
    """Fold all events."""
    writer = RollupWriter(conn, [zone(name) for name in TIME_ZONES])
    while writer.step().has_more:
        pass


def write_columns(conn: connection) -> None:
    """Write all folded events to columns, merge chunks, and rewrite those of erased users."""
    store = ColumnStore([])
    while store.maintain(conn, is_lazy=False):
        pass


_WORK: dict[str, Callable[[connection], None]] = {"fold": fold, "columns": write_columns}


def main(kind: str, url: str) -> None:
    """Write all events of a database; print a `WriterRun`."""
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        began = time.perf_counter()
        _WORK[kind](conn)
        seconds = time.perf_counter() - began
    sys.stdout.buffer.write(msgspec.json.encode(WriterRun(seconds, _max_mb())))


def _max_mb() -> float:
    # The maximum of `resource` would include that of the parent process.
    match = re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match
    return int(match[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
