"""`python main.py load`, as it is called: what it stores, what it tells, and what it leaves out."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow
import pytest
from click.testing import Result
from psycopg2.extensions import connection
from pyarrow import parquet

from config.database import connect
from repo.ingest import IngestRepo
from repo.lifecycle.suppression import SuppressionRepo
from services.ingest.batch_writer import Batch, BatchWriter
from tests.cli import run_cli
from tests.events import GIT_HISTORY
from tests.factories import ID, event
from tests.wait_until import wait_until

ROOT = Path(__file__).parents[2]
Load = Callable[..., Result]


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url}


@pytest.fixture
def load(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, given=b"": run_cli("load", *arguments, stdin=given, **environment)


def ndjson(*events: dict[str, Any] | bytes) -> bytes:
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in events]
    return b"\n".join(lines) + b"\n"


def stored(conn: connection, columns: str = "event_id") -> list[Any]:
    with conn.cursor() as cur:
        cur.execute(f"select {columns} from events order by event_id")
        return [row[0] if len(row) == 1 else row for row in cur]


def rejected(path: Path) -> list[tuple[int, str]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["line"], row["reason"]) for row in rows]


def test_the_real_events_once_and_again(load: Load, conn: connection) -> None:
    first, second = load(GIT_HISTORY), load(GIT_HISTORY)
    assert first.stdout.splitlines()[-1].endswith(
        "read 200,925, inserted 200,925, already there 0, rejected 0"
    )
    assert second.stdout.splitlines()[-1].endswith(
        "read 200,925, inserted 0, already there 200,925, rejected 0"
    )
    assert (first.exit_code, second.exit_code) == (0, 0)
    with conn.cursor() as cur:
        cur.execute("select count(*), count(distinct user_id) from events")
        assert cur.fetchone() == (200_925, 3_532)


def test_one_broken_line_among_good_ones(load: Load, conn: connection, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(ndjson(event(1), b'{"event_id": "broken', event(3)))
    done = load(file)
    assert done.exit_code == 1
    assert "read 3, inserted 2, already there 0, rejected 1" in done.stdout
    assert "1 rejected: the line is not valid JSON" in done.stdout
    assert stored(conn) == [ID.format(1), ID.format(3)]
    report = tmp_path / "events.ndjson.rejected.ndjson"
    assert [json.loads(line) for line in report.read_text().splitlines()] == [
        {"line": 2, "reason": "the line is not valid JSON", "input": '{"event_id": "broken'}
    ]


def test_events_of_suppressed_users_are_skipped_and_counted(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(ndjson(*map(event, range(5))))
    SuppressionRepo(conn).add(["u1", "u3"], 1)
    reports = ("inserted 3, already there 0", "inserted 0, already there 3")
    for expected in reports:
        done = load(file)
        assert done.exit_code == 0
        assert f"read 5, {expected}, suppressed 2, rejected 0" in done.stdout
    assert stored(conn, "user_id") == ["u0", "u2", "u4"]


def test_a_stale_rejects_file_is_removed(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    report = tmp_path / "events.ndjson.rejected.ndjson"
    file.write_bytes(ndjson(b"{"))
    load(file)
    assert report.exists()
    file.write_bytes(ndjson(event(1)))
    assert load(file).exit_code == 0
    assert not report.exists()


BAD: list[tuple[dict[str, Any] | bytes, str]] = [
    (event(1, event_name=...), "event_name is missing"),
    (
        event(1, occurred_at="0001-01-01T00:00:00Z"),
        "occurred_at must be within the years 2000 to 2099",
    ),
    (
        event(1, occurred_at="9999-12-31T23:59:59Z"),
        "occurred_at must be within the years 2000 to 2099",
    ),
    (event(1, properties={"x": float("nan")}), "the line is not valid JSON"),
    (
        event(1, properties={"x": "y" * 2_000_000}),
        "properties must be an object of less than 64 kB",
    ),
    (event(1, properties={"x": "y" * 70_000}), "properties must be an object of less than 64 kB"),
    (b'{"event_id":"\xff"}', "the line is not valid UTF-8"),
    (b'{"properties":{"a":"\xff"}}', "the line is not valid UTF-8"),
    (event(1, properties={"x": "\x00"}), "properties must not contain a NUL character"),
    (event(1, properties={"x": "\ud800"}), "the line must not contain a lone surrogate"),
    (event(1, user_id="\x00"), "user_id must not contain a NUL character"),
    (event(1, event_id=7), "Expected `str | null`, got `int` - at `$.event_id`"),
    (event(1, extra=1), "Object contains unknown field `extra`"),
    (event(1, properties=[]), "properties must be an object"),
    (b'{"properties":' + b"[" * 20_000, "the line is not valid JSON"),
    (b"x" * 5_000_000, "the line is over 4 MB long"),
    (
        ndjson(event(1)).replace(b'{"n": 1}', b'{"n": 1e131071}').strip(),
        "properties must not hold numbers beyond 1.8e308",
    ),
    (
        ndjson(event(1)).replace(b'{"n": 1}', b'{"n": %s}' % (b"9" * 309)).strip(),
        "properties must not hold numbers beyond 1.8e308",
    ),
]


def test_each_bad_line_is_told_with_its_reason_and_good_ones_are_loaded(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    file = tmp_path / "bad.ndjson"
    file.write_bytes(ndjson(*(line for bad, _ in BAD for line in (bad, b"")), event(2), event(3)))
    done = load(file)
    assert done.exit_code == 1
    assert f"read {len(BAD) + 2}, inserted 2, already there 0, rejected {len(BAD)}" in done.stdout
    assert stored(conn) == [ID.format(2), ID.format(3)]
    expected = [(2 * n + 1, reason) for n, (_, reason) in enumerate(BAD)]
    assert sorted(rejected(tmp_path / "bad.ndjson.rejected.ndjson")) == expected


def test_properties_are_stored_as_they_were_given(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    text = (
        b'{"long": 123456789012345678901234567890, "text": "a\\tb\\\\ \\"\\u00fc", "fine": 1e-30}'
    )
    (tmp_path / "x.ndjson").write_bytes(ndjson(event(1)).replace(b'{"n": 1}', text))
    assert load("x.ndjson").exit_code == 0
    assert stored(conn, "properties->>'long', properties->>'text', properties->>'fine'") == [
        ("123456789012345678901234567890", 'a\tb\\ "ü', "0.000000000000000000000000000001")
    ]


def test_names_and_users_are_stored_as_they_were_given(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    odd = ["\\N", "\\.", "a\tb", "a\nb", "a\r\nb", "\\", "'; --", "ü\u2028", "\x7f"]
    (tmp_path / "x.ndjson").write_bytes(
        ndjson(*(event(n, user_id=text, event_name=text) for n, text in enumerate(odd)))
    )
    assert load("x.ndjson").exit_code == 0
    assert stored(conn, "user_id, event_name") == [(text, text) for text in odd]


def test_an_id_counts_once_and_the_first_of_it(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    (tmp_path / "x.ndjson").write_bytes(
        ndjson(event(1, event_name="first"), event(2), event(1, event_name="second"))
    )
    assert "inserted 2, already there 1, rejected 0" in load("x.ndjson").stdout
    assert stored(conn, "event_name") == ["first", "view"]


def test_a_cut_off_input_gives_what_came_before(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    events = [event(n, properties={"n": str(n) * 50}) for n in range(3000)]
    complete = gzip.compress(ndjson(*events))
    (tmp_path / "cut.gz").write_bytes(complete[: len(complete) // 2])
    done = load("cut.gz")
    assert done.exit_code == 1
    assert "the compressed input is truncated or damaged" in done.stderr
    loaded = stored(conn)
    assert 1000 < len(loaded) < 3000
    assert loaded == [ID.format(n) for n in range(len(loaded))]
    assert f"stopped after row {len(loaded):,}:" in done.stderr


@pytest.fixture
def some_events() -> list[dict[str, Any]]:
    with gzip.open(GIT_HISTORY, "rt") as file:
        return [json.loads(next(file)) for _ in range(500)]


def as_csv(events: list[dict[str, Any]], path: Path, names: dict[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow([names.get(name, name) for name in events[0]])
        for each in events:
            writer.writerow([*list(each.values())[:-1], json.dumps(each["properties"])])


def as_parquet(events: list[dict[str, Any]], path: Path, names: dict[str, str]) -> None:
    columns = {names.get(name, name): [given[name] for given in events] for name in events[0]}
    columns["occurred_at"] = [datetime.fromisoformat(text) for text in columns["occurred_at"]]
    columns["properties"] = [json.dumps(each["properties"]) for each in events]
    parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("write", [as_csv, as_parquet])
@pytest.mark.parametrize("through", ["file", "stdin"])
def test_all_forms_store_the_same(
    load: Load,
    conn: connection,
    tmp_path: Path,
    some_events: list[dict[str, Any]],
    write: Callable[..., None],
    through: str,
) -> None:
    path = tmp_path / "events.data"
    write(some_events, path, {"user_id": "visitor", "event_name": "action"})
    mapped = ["--map", "user_id=visitor", "--map", "event_name=action"]
    keywords = {"given": path.read_bytes()} if through == "stdin" else {}
    done = load("-" if keywords else path, *mapped, **keywords)
    assert done.exit_code == 0, done.stderr
    loaded = stored(
        conn, "event_id, user_id, event_name, extract(epoch from occurred_at)::bigint, properties"
    )
    assert loaded == sorted(
        (
            e["event_id"],
            e["user_id"],
            e["event_name"],
            int(datetime.fromisoformat(e["occurred_at"]).timestamp()),
            e["properties"],
        )
        for e in some_events
    )


def test_a_column_that_is_missing_stops_its_file_and_no_other(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(f"event_id,event_name\n{ID.format(1)},view\n")
    (tmp_path / "b.ndjson").write_bytes(ndjson(event(2)))
    done = load("a.csv", "b.ndjson")
    assert done.exit_code == 1
    assert "a.csv: there is no column occurred_at; there are event_id, event_name;" in done.stderr
    assert "--map occurred_at=COLUMN" in done.stderr
    assert stored(conn) == [ID.format(2)]


def test_a_column_that_nobody_knows_is_not_dropped_in_silence(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    row = f"{ID.format(1)},view,2025-01-01 10:00:00,mine\n"
    (tmp_path / "a.csv").write_text("event_id,event_name,occurred_at,extra\n" + row)
    refused = load("a.csv", "--tz", "UTC")
    assert refused.exit_code == 1
    assert "--ignore SOURCE" in refused.stderr
    assert load("a.csv", "--tz", "UTC", "--ignore", "extra").exit_code == 0
    assert stored(conn) == [ID.format(1)]


def test_bad_rows_of_csv_are_told_with_their_lines(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    rows = [
        b"event_id,user_id,event_name,occurred_at",
        f'{ID.format(1)},"two\nlines",view,2025-01-01T00:00:00Z'.encode(),
        f"{ID.format(2)},u,view".encode(),
        f"{ID.format(3)},".encode() + b"\xff,view,2025-01-01T00:00:00Z",
        f"{ID.format(4)},u,view,2025-01-01T00:00:00Z".encode(),
    ]
    (tmp_path / "a.csv").write_bytes(b"\n".join(rows))
    assert load("a.csv").exit_code == 1
    assert stored(conn, "event_id, user_id") == [(ID.format(1), "two\nlines"), (ID.format(4), "u")]
    assert rejected(tmp_path / "a.csv.rejected.ndjson") == [
        (4, "the row has 3 fields and the header 4"),
        (5, "the row is not valid UTF-8"),
    ]


@pytest.mark.parametrize(
    "arguments", [["--map", "nothing=x"], ["--tz", "Mars/Olympus"], ["--format", "xml"], []]
)
def test_invalid_arguments_exit_with_2(load: Load, arguments: list[str]) -> None:
    files = ["a.csv"] if arguments else []
    assert load(*files, *arguments).exit_code == 2


def test_a_file_that_is_not_there_is_told(load: Load) -> None:
    done = load("missing.ndjson")
    assert done.exit_code == 1
    assert "missing.ndjson" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_load_that_was_killed_is_repeated(
    load: Load, conn: connection, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    with gzip.open(GIT_HISTORY, "rb") as history:
        file.write_bytes(b"".join(islice(history, 50_000)))
    command = [sys.executable, str(ROOT / "main.py"), "load", str(file), "--batch", "1000"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(stored(conn)) > 5000, timeout_s=30)
        process.send_signal(signal.SIGKILL)
    part = len(stored(conn))
    assert part < 50_000
    done = load(file)
    assert done.exit_code == 0
    assert f"already there {part:,}" in done.stdout
    assert len(stored(conn)) == 50_000


HEADER = "event_id,event_name,occurred_at,user_id"


def csv_rows(*numbers: int) -> list[str]:
    return [f"{ID.format(n)},view,2025-01-01T00:00:00Z,u{n}" for n in numbers]


@pytest.mark.parametrize("after", [3, 5000])
def test_a_quote_that_is_never_closed_costs_its_line_alone(
    load: Load, conn: connection, tmp_path: Path, after: int
) -> None:
    broken = f'{ID.format(1)},view,2025-01-01T00:00:00Z,"u1'
    rows = [HEADER, *csv_rows(0), broken, *csv_rows(*range(2, after))]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    done = load("a.csv")
    assert f"read {after:,}, inserted {after - 1:,}, already there 0, rejected 1" in done.stdout
    assert stored(conn) == [ID.format(n) for n in range(after) if n != 1]
    (line,) = (tmp_path / "a.csv.rejected.ndjson").read_text().splitlines()
    assert json.loads(line)["line"] == 3
    assert json.loads(line)["input"].strip() == broken


@pytest.mark.parametrize("length", [1, 12, 20])
def test_an_input_that_is_cut_off_at_once_does_not_stop_the_others(
    load: Load, conn: connection, tmp_path: Path, length: int
) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(ndjson(event(1)))[:length])
    (tmp_path / "b.ndjson").write_bytes(ndjson(event(2)))
    done = load("cut.gz", "b.ndjson")
    assert done.exit_code == 1
    assert "Traceback" not in done.stderr
    if length > 1:  # else nobody can tell that it was compressed
        assert "the compressed input is truncated or damaged" in done.stderr
    assert stored(conn) == [ID.format(2)]


def test_rows_of_parquet_that_cannot_be_read_are_told(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    far = pyarrow.array([0, 10**18, -(10**17)], pyarrow.timestamp("us", "UTC"))
    ids = [ID.format(n) for n in range(3)]
    names = pyarrow.array([b"view", b"view", b"view"]).view(pyarrow.string())
    moments = pyarrow.array([1_740_000_000_000_000, 10**18, -(10**17)]).cast(far.type)
    table = pyarrow.table({"event_id": ids, "event_name": names, "occurred_at": moments})
    parquet.write_table(table, tmp_path / "far.parquet")
    done = load("far.parquet")
    assert "read 3, inserted 1, already there 0, rejected 2" in done.stdout, done.stderr
    bad = pyarrow.array([b"view", b"\xff", b"view"]).view(pyarrow.string())
    good_times = pyarrow.array([1_740_000_000_000_000] * 3).cast(far.type)
    table = pyarrow.table({"event_id": ids, "event_name": bad, "occurred_at": good_times})
    parquet.write_table(table, tmp_path / "bad.parquet")
    done = load("bad.parquet")
    assert "read 3, inserted 1, already there 1, rejected 1" in done.stdout, done.stderr


def test_large_rows_are_not_all_kept_in_memory() -> None:
    batch = Batch()
    batch.add(["x" * (17 * 2**20)], [(1, None)])
    assert batch.is_full(10_000)


def test_two_inputs_of_one_name_have_two_lists_of_rejects(load: Load, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        (folder / "e.ndjson").write_bytes(ndjson(b"{"))
    done = load("a/e.ndjson", "b/e.ndjson", "a/e.ndjson")
    paths = [line.split("are in ")[1] for line in done.stdout.splitlines() if "are in" in line]
    assert len(set(paths)) == 3
    assert all(Path(path).exists() for path in paths)


def test_rejects_that_cannot_be_written_stop_nothing(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    (tmp_path / "e.ndjson").write_bytes(ndjson(b"{", event(2)))
    (tmp_path / "e.ndjson.rejected.ndjson").mkdir()
    done = load("e.ndjson")
    assert done.exit_code == 1
    assert "read 2, inserted 1, already there 0, rejected 1" in done.stdout
    assert "the rejected rows could not be written" in done.stderr
    assert stored(conn) == [ID.format(2)]


def test_a_blocked_batch_is_cancelled_after_the_drain_timeout(
    database_url: str, conn: connection
) -> None:
    with closing(psycopg2.connect(database_url)) as holder:
        holder.cursor().execute("lock table events in share mode")
        writer = BatchWriter(
            IngestRepo(connect(database_url, "analytics-load")), drain_timeout_s=0.2
        )
        row = "\t".join((ID.format(1), "u", "view", "2025-01-31T09:00:00Z", "{}"))
        writer.store(Batch([row], [(1, row)]))
        writer.close()
        assert list(writer.results()) == []
    assert stored(conn) == []


def test_an_escaped_backslash_is_no_nul(load: Load, conn: connection, tmp_path: Path) -> None:
    text = rb'{"path": "C:\\u0000dir"}'
    (tmp_path / "x.ndjson").write_bytes(ndjson(event(1)).replace(b'{"n": 1}', text))
    assert load("x.ndjson").exit_code == 0
    assert stored(conn, "properties->>'path'") == ["C:\\u0000dir"]


def test_what_postgresql_writes_as_csv_is_read(
    load: Load, conn: connection, tmp_path: Path
) -> None:
    row = f"{ID.format(1)},view,2025-01-01 00:00:00+00,u1"
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{row}\n")
    assert load("a.csv").exit_code == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b'[{"event_id": 1}]', "there is no key event_name"),
        (b'"event_name', "the header cannot be read"),
        (b"event_name,\xff,n\n", "the header has bytes of another encoding"),
        (b"\xff\xfee\x00\x00\xd8e\x00", "the header has bytes of another encoding"),
        (b"event_id,event_id,event_name,occurred_at\n", "two columns have the same name"),
    ],
)
def test_inputs_of_another_kind_are_told(
    load: Load, tmp_path: Path, given: bytes, told: str
) -> None:
    (tmp_path / "x").write_bytes(given)
    assert told in load("x").stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--map", "user_id=v", "--map", "event_name=v"], 2),
        (["--map", "user_id=a", "--map", "user_id=b"], 2),
        (["--map", "user_id=event_name"], 2),
        (["--ignore", "event_id"], 2),
        (["--map", "user_id=nosuch", "--ignore", "user_id"], 1),
    ],
)
def test_maps_that_make_no_sense_are_told(
    load: Load, tmp_path: Path, arguments: list[str], code: int
) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *csv_rows(1)]))
    done = load("a.csv", *arguments)
    assert done.exit_code == code
    assert "Traceback" not in done.stderr


def test_standard_input_may_come_in_small_pieces(
    conn: connection, environment: dict[str, str]
) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "load", "-"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        assert process.stdin
        for part in (b"\n", ndjson(event(1))[:20], ndjson(event(1))[20:]):
            process.stdin.write(part)
            process.stdin.flush()
            time.sleep(0.2)
        process.stdin.close()
    assert process.returncode == 0
    assert stored(conn) == [ID.format(1)]
