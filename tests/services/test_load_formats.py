"""`python main.py load`: compressed files, archives, standard input, and options of mappings."""

import bz2
import gzip
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from psycopg2.extensions import connection

from services.ingest.readers import LINES_AT_ONCE
from tests.adoption import run_sql
from tests.cli import run_cli
from tests.factories import ID, event

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Load = Callable[..., Result]

ROWS = 1_200
LINES = "".join(json.dumps(event(n)) + "\n" for n in range(ROWS)).encode()
CLICKS = "".join(
    ["who;what;at;n\n", *(f"u{n};click;{1_736_500_000 + n};{n}\n" for n in range(ROWS))]
)
MAPPED = ("--map", "user_id=who", "--map", "event_name=what", "--map", "occurred_at=at")


@pytest.fixture
def load(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Load:
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url}

    def load(*arguments: object, stdin: bytes = b"") -> Result:
        return run_cli("load", *arguments, stdin=stdin, **environment)

    return load


def zipped(**files: bytes) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def count(conn: connection) -> Any:
    return run_sql(conn, "select count(*), count(distinct user_id) from events")[0]


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, bz2.compress])
@pytest.mark.parametrize("through", ["file", "stdin"])
def test_compressed_files_are_read(
    load: Load, conn: connection, compress: Callable[[bytes], bytes], through: str
) -> None:
    content = compress(LINES)
    Path("a").write_bytes(content)
    done = load("a") if through == "file" else load("-", stdin=content)
    assert f"read {ROWS:,}, inserted {ROWS:,}, already there 0, rejected 0" in done.stdout
    assert count(conn) == (ROWS, ROWS)


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, bz2.compress])
@pytest.mark.parametrize("through", ["file", "stdin", "archive"])
def test_a_parquet_file_may_be_compressed_as_a_whole(
    load: Load, conn: connection, compress: Callable[[bytes], bytes], through: str
) -> None:
    content = compress(parquet(ROWS))
    Path("a.parquet.gz").write_bytes(zipped(a=content) if through == "archive" else content)
    stdin = content if through == "stdin" else b""
    done = load("-" if through == "stdin" else "a.parquet.gz", stdin=stdin)
    assert f"read {ROWS:,}, inserted {ROWS:,}, already there 0, rejected 0" in done.stdout
    assert count(conn) == (ROWS, ROWS)
    Path("a.parquet.gz").write_bytes(content[:-20])
    cut = load("a.parquet.gz", "--dry-run")
    assert cut.exit_code == 1
    assert "Traceback" not in cut.output
    assert cut.stderr.startswith("a.parquet.gz: ")


def parquet(rows: int) -> bytes:
    """Events as a Parquet file."""
    events = [{**event(n), "properties": json.dumps(event(n)["properties"])} for n in range(rows)]
    pq.write_table(pa.Table.from_pylist(events), buffer := io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, bz2.compress])
def test_a_compressed_file_that_is_cut_off_is_loaded_up_to_there(
    load: Load, compress: Callable[[bytes], bytes]
) -> None:
    content = compress(os.urandom(200_000).hex(" ", 1).encode())
    Path("a").write_bytes(content[:-5_000])
    done = load("a", "--format", "ndjson")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "truncated or damaged" in done.stderr


def test_each_file_of_a_zip_archive_is_loaded(load: Load, conn: connection) -> None:
    files = {"day__ndjson__gz": gzip.compress(LINES), "bad__csv": b"a,b\n1,2\n"}
    for arguments, stdin in ((("a.zip",), b""), (("-",), zipped(**files))):
        Path("a.zip").write_bytes(zipped(**files))
        done = load(*arguments, stdin=stdin)
        assert done.exit_code == 1
        assert f"{arguments[0]}/day.ndjson.gz: read {ROWS:,}, inserted" in done.stdout
        assert f"{arguments[0]}/bad.csv: there is no column event_name" in done.stderr
    assert count(conn) == (ROWS, ROWS)


def test_names_in_an_archive_lead_nowhere_else(load: Load, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    rows = b"event_name,occurred_at\n,2025-01-01T00:00:00Z\n"
    Path("a.zip").write_bytes(zipped(**{f"{elsewhere}/bad.csv": rows}))
    assert "rejected 1" in load("a.zip").stdout
    assert list(elsewhere.iterdir()) == []
    assert Path("bad.csv.rejected.ndjson").exists()


def test_a_workbook_is_told(load: Load) -> None:
    Path("a.xlsx").write_bytes(zipped(**{"[Content_Types].xml": b"<Types/>", "xl/a.xml": b"<a/>"}))
    done = load("a.xlsx")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "a.xlsx: this is a workbook of Excel: save its sheets as CSV\n"


def test_a_damaged_archive_is_told(load: Load) -> None:
    Path("a.zip").write_bytes(zipped(a=LINES)[:-10])
    done = load("a.zip")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("a.zip: the zip archive cannot be read: ")


@pytest.mark.parametrize("through", ["file", "stdin"])
def test_a_mapped_file_is_loaded_in_blocks_and_once(
    load: Load, conn: connection, through: str
) -> None:
    assert ROWS > 2 * LINES_AT_ONCE
    Path("a.csv").write_text(CLICKS)
    options = (*MAPPED, "--property", "n", "--id", "who")
    results = [
        load("a.csv", *options) if through == "file" else load("-", *options, stdin=CLICKS.encode())
        for _ in range(2)
    ]
    assert [done.exit_code for done in results] == [0, 0]
    assert f"inserted {ROWS:,}, already there 0" in results[0].stdout
    assert f"inserted 0, already there {ROWS:,}" in results[1].stdout
    assert "  at read as seconds since 1970" in results[0].stdout
    row = run_sql(
        conn,
        "select event_name, extract(epoch from occurred_at)::int, properties from events"
        " where user_id = 'u7'",
    )
    assert row == [("click", 1_736_500_007, {"n": 7})]


def test_a_bad_row_among_mapped_ones_is_rejected_with_its_line(
    load: Load, conn: connection
) -> None:
    lines = CLICKS.splitlines(keepends=True)
    lines[701] = "u700;click;soon;700\n"
    lines[702] = "u701;click\n"
    Path("a.csv").write_text("".join(lines))
    options = (*MAPPED, "--epoch", "s", "--property", "*")
    done = load("a.csv", *options)
    assert f"read {ROWS:,}, inserted {ROWS - 2:,}, already there 0, rejected 2" in done.stdout
    rejected = map(json.loads, Path("a.csv.rejected.ndjson").read_text().splitlines())
    assert [(row["line"], row["reason"]) for row in rejected] == [
        (702, "occurred_at must be a number of seconds since 1970"),
        (703, "the row has 2 fields and the header 4"),
    ]
    # Without an id, the rows before and after have the same ids again.
    Path("a.csv").write_text(CLICKS)
    assert f"inserted 2, already there {ROWS - 2:,}" in load("a.csv", *options).stdout


def test_equal_rows_are_counted_as_often_as_they_occur(load: Load, conn: connection) -> None:
    Path("a.csv").write_text("event_name,occurred_at\n" + "a,2025-01-10T00:00:00Z\n" * 700)
    assert "inserted 700, already there 0" in load("a.csv").stdout
    assert "inserted 0, already there 700" in load("a.csv").stdout


def test_one_file_may_hold_two_events_per_row(load: Load, conn: connection) -> None:
    Path("users.csv").write_text("id,created,left\n7,2025-01-10T00:00:00Z,2025-02-10T00:00:00Z\n")
    for name, column in (("joined", "created"), ("left", "left")):
        constant, source = f"event_name={name}", f"occurred_at={column}"
        done = load("users.csv", "--set", constant, "--map", source, "--id", "id", "--ignore", "*")
        assert "inserted 1, already there 0" in done.stdout
    assert run_sql(conn, "select event_name from events order by occurred_at") == [
        ("joined",),
        ("left",),
    ]


def test_local_times_of_mapped_files_are_counted_when_they_are_adjusted(
    load: Load, conn: connection
) -> None:
    Path("a.csv").write_text("name,day\na,29.03.2026 02:30\nb,25.10.2026 02:30\n")
    options = ("--map", "event_name=name", "--map", "occurred_at=day")
    done = load("a.csv", *options, "--time-format", "%d.%m.%Y %H:%M", "--tz", "Europe/Berlin")
    assert "  1 with a local time in a repeated hour: the first one was used" in done.stdout
    assert "  1 with a local time in a skipped hour: moved forward" in done.stdout
    times = run_sql(
        conn, "select (occurred_at at time zone 'UTC')::text from events order by event_name"
    )
    assert times == [("2026-03-29 01:30:00",), ("2026-10-25 00:30:00",)]


def test_rows_without_a_source_are_counted(load: Load, conn: connection) -> None:
    rows = [event(n, user_id=..., **({"who": "u"} if n % 2 else {})) for n in range(600)]
    Path("a.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = load("a.ndjson", "--map", "user_id=who", "--property", "*")
    assert done.stdout.splitlines() == [
        "a.ndjson: read 600, inserted 600, already there 0, rejected 0",
        "  300 without who, the source of user_id",
    ]


def test_a_preview_needs_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.ndjson").write_bytes(LINES)
    unreachable = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    done = run_cli("load", "a.ndjson", "--dry-run", **unreachable)
    assert done.exit_code == 0
    assert ID.format(2) in done.stdout
    assert ID.format(3) not in done.stdout
