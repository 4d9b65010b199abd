"""`python main.py export`: the files are the events, and only days that changed are replaced."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from psycopg2.extensions import connection

import services.export.run as run
from repo.export import EventRow
from repo.lifecycle.erasure import EraseRepo
from services.export.files import remove_leftovers, write_aside
from tests.api.requests import stored_rows
from tests.cli import run_cli
from tests.events import fold, insert, insert_many
from tests.pages import ROOT
from tests.retention import drop
from tests.source_comparison import connected
from tests.tempdirs import temp_dir
from tests.wait_until import wait_until
from utils.time.zones import zone

FIRST = datetime(2025, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""The last microsecond of a day."""
SECOND = FIRST + timedelta(microseconds=1)
THIRD = datetime(2025, 2, 2, 12, tzinfo=UTC)
PROPERTIES = {"path": "/a", "n": 1.5, "text": 'ü "quoted",\n\t\\ '}
COLUMNS = ["event_id", "user_id", "event_name", "occurred_at", "properties"]

Export = Callable[..., Result]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def export(database_url: str, target: Path) -> Export:
    def call(*options: str) -> Result:
        return run_cli("export", "--to", target, *options, DATABASE_URL=database_url)

    return call


@pytest.fixture
def events(conn: connection) -> None:
    """Three days, of which the second has one event of the user u2."""
    insert(conn, ("u1", "view", FIRST, PROPERTIES), ("", "view", FIRST - timedelta(hours=20)))
    insert(conn, ("u1", "view", SECOND), ("u2", "buy", SECOND + timedelta(hours=3)))
    insert(conn, ("u1", "view", THIRD))


def exported(target: Path) -> list[tuple[Any, ...]]:
    """All rows, ordered by id; properties are parsed."""
    table = ds.dataset(target, format="parquet", partitioning="hive").to_table(columns=COLUMNS)
    rows = [
        (*row.values(), json.loads(text))
        for row in table.to_pylist()
        if (text := row.pop("properties"))
    ]
    return sorted(rows)


def in_database(conn: connection) -> list[tuple[Any, ...]]:
    columns = "event_id, nullif(user_id, ''), event_name, occurred_at, properties"
    return stored_rows(conn, columns)


def manifest(target: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((target / "_manifest.json").read_text())
    return content


def versions(target: Path) -> dict[str, tuple[int, int]]:
    """Version and number of rows of each day, after a check of its file."""
    days = {}
    for day in manifest(target)["days"]:
        file = target / day["file"]
        assert (file.stat().st_size, pq.read_metadata(file).num_rows) == (day["bytes"], day["rows"])
        assert hashlib.sha256(file.read_bytes()).hexdigest() == day["sha256"]
        days[day["day"]] = (day["version"], day["rows"])
    files = {file.relative_to(target).as_posix() for file in target.rglob("*") if file.is_file()}
    assert files == {"_manifest.json"} | {f"day={day}/events.parquet" for day in days}
    return days


def report_of(result: Result) -> tuple[str, str]:
    """What was written, and what was not."""
    assert result.exit_code == 0, result.output
    written, _, rest = result.stdout.partition(" to /")
    return written, rest.partition(" s")[2].strip()


@pytest.mark.usefixtures("events")
def test_the_files_hold_all_events(export: Export, target: Path, conn: connection) -> None:
    assert report_of(export()) == ("Wrote 3 days with 5 events", "; 0 days unchanged.")
    assert exported(target) == in_database(conn)
    assert versions(target) == {"2025-01-31": (1, 2), "2025-02-01": (1, 2), "2025-02-02": (1, 1)}
    schema = pq.read_schema(target / "day=2025-01-31" / "events.parquet")
    assert [str(field.type) for field in schema] == [
        *("string", "string", "string", "timestamp[us, tz=UTC]", "string")
    ]
    metadata = pq.read_metadata(target / "day=2025-01-31" / "events.parquet")
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.usefixtures("events")
def test_only_days_that_changed_are_written_again(
    export: Export, target: Path, conn: connection
) -> None:
    export()
    before = {file: file.stat().st_ino for file in target.rglob("*.parquet")}
    assert report_of(export()) == ("Wrote 0 days with 0 events", "; 3 days unchanged.")
    insert(conn, ("u3", "view", SECOND), ("u3", "view", THIRD + timedelta(days=1)))
    assert report_of(export()) == ("Wrote 2 days with 4 events", "; 2 days unchanged.")
    assert versions(target) == {
        "2025-01-31": (1, 2),
        "2025-02-01": (2, 3),
        "2025-02-02": (1, 1),
        "2025-02-03": (1, 1),
    }
    same = {file for file, number in before.items() if file.stat().st_ino == number}
    assert {file.parent.name for file in same} == {"day=2025-01-31", "day=2025-02-02"}
    assert exported(target) == in_database(conn)


@pytest.mark.usefixtures("events")
def test_an_erased_user_leaves_the_files(export: Export, target: Path, conn: connection) -> None:
    """Also if another event of the day arrives, so that its number of events is the same."""
    export()
    EraseRepo(conn).erase("u2", is_suppressed=False)
    insert(conn, ("u4", "view", SECOND))
    assert report_of(export()) == ("Wrote 1 day with 2 events", "; 2 days unchanged.")
    EraseRepo(conn).erase("u4", is_suppressed=False)
    assert report_of(export()) == ("Wrote 1 day with 1 event", "; 2 days unchanged.")
    assert versions(target)["2025-02-01"] == (3, 1)
    assert {user for _, user, *_ in exported(target)} == {"u1", None}


@pytest.mark.usefixtures("events")
def test_days_without_events_leave_the_files(
    export: Export, target: Path, conn: connection, database_url: str
) -> None:
    export()
    fold(database_url)
    drop(database_url, [zone("UTC")], SECOND)
    assert report_of(export()) == (
        "Wrote 0 days with 0 events",
        ", removed 1 day; 2 days unchanged.",
    )
    assert versions(target) == {"2025-02-01": (1, 2), "2025-02-02": (1, 1)}


def test_an_event_of_an_open_transaction_is_written_later(
    export: Export, target: Path, conn: connection, database_url: str
) -> None:
    """Its id is older than those of events that are in the files."""
    insert(conn, ("u1", "view", SECOND), ("u1", "view", THIRD))
    with connected(database_url) as other:
        other.cursor().execute("begin")
        insert(other, ("late", "view", THIRD))
        insert(conn, ("u1", "view", SECOND))
        export()
        other.cursor().execute("commit")
    assert report_of(export()) == ("Wrote 1 day with 2 events", "; 1 day unchanged.")
    assert exported(target) == in_database(conn)


@pytest.mark.usefixtures("events")
def test_a_file_that_is_missing_or_cut_is_written_again(
    export: Export, target: Path, conn: connection
) -> None:
    export()
    (target / "day=2025-01-31" / "events.parquet").unlink()
    (target / "day=2025-02-01" / "events.parquet").write_bytes(b"PAR1")
    assert report_of(export()) == ("Wrote 2 days with 4 events", "; 1 day unchanged.")
    assert exported(target) == in_database(conn)


def test_a_large_day_has_several_row_groups(export: Export, target: Path, conn: connection) -> None:
    insert_many(conn, 300_000, SECOND)
    export()
    file = target / "day=2025-02-01" / "events.parquet"
    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert (sum(groups), max(groups)) == (300_000, 132_000)
    assert len(set(pq.read_table(file, columns=["event_id"])["event_id"].to_pylist())) == 300_000


class Killed(BaseException):
    """As if the process were killed: nothing is cleaned up."""


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("step", "at"),
    [
        ("write_aside", 1),
        ("write_aside", 2),
        ("put_in_place", 1),
        ("put_in_place", 2),
        ("remove_day", 1),
    ],
)
def test_a_killed_run_is_continued(
    export: Export,
    target: Path,
    conn: connection,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    at: int,
) -> None:
    """What it had written of users who are erased then goes as well."""
    calls = 0

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Killed
        return original(*arguments)

    original = getattr(run, step)
    if step == "remove_day":
        export()
        EraseRepo(conn).erase("u1", is_suppressed=False)
    with monkeypatch.context() as patch:
        patch.setattr(run, step, killed)
        with pytest.raises(Killed):
            export()
    EraseRepo(conn).erase("u2", is_suppressed=False)
    assert export().exit_code == 0
    assert exported(target) == in_database(conn)
    versions(target)


def test_a_run_that_is_killed_for_good_leaves_no_half_file(
    database_url: str, target: Path, conn: connection, export: Export
) -> None:
    for day in range(5):
        insert_many(conn, 50_000, SECOND + timedelta(days=day))
    command = [sys.executable, str(ROOT / "main.py"), "export", "--to", str(target)]
    environment = os.environ | {"DATABASE_URL": database_url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(list(target.glob("*/events.parquet"))) >= 2, timeout_s=60)
        process.send_signal(signal.SIGKILL)
    for file in target.glob("*/events.parquet"):
        assert pq.read_metadata(file).num_rows == 50_000
    assert export().exit_code == 0
    assert versions(target) == {f"2025-02-0{day}": (1, 50_000) for day in range(1, 6)}


@pytest.mark.usefixtures("events")
def test_other_databases_are_refused_unless_all_days_are_compared(
    export: Export, target: Path, conn: connection
) -> None:
    export()
    conn.cursor().execute("update installation set installation_id = gen_random_uuid()")
    refused = export()
    assert refused.exit_code == 1
    assert "has an export of another database" in refused.stderr
    assert report_of(export("--full")) == ("Wrote 0 days with 0 events", "; 3 days unchanged.")
    assert report_of(export()) == ("Wrote 0 days with 0 events", "; 3 days unchanged.")


def test_directories_that_cannot_be_used(export: Export, target: Path) -> None:
    target.mkdir()
    with (target.parent / "other").open("w") as file:
        file.write("x")
    (target / "notes.txt").write_text("")
    refused = export()
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (
        1,
        f"Error: {target} has other files: export to an empty directory",
    )
    (target / "notes.txt").unlink()
    (target / "_manifest.json").write_text("{}")
    refused = export()
    assert refused.exit_code == 1
    assert "is not a manifest that this version can read" in refused.stderr


@pytest.fixture
def nobody() -> Iterator[Callable[[], None]]:
    """Makes this process one without rights on files of others, until the end of the test."""
    user = os.geteuid()

    def begin() -> None:
        if user == 0:
            os.seteuid(65_534)

    yield begin
    os.seteuid(user)


def test_a_directory_of_another_user(nobody: Callable[[], None]) -> None:
    with temp_dir("export") as target:
        target.chmod(0o555)
        nobody()
        with pytest.raises(run.CannotExport) as refused, run._locked(target):
            pass
        os.seteuid(os.getuid())
    assert str(refused.value) == (
        f"this user may not write to {target}: export to another directory, or run the command as "
        "the owner of this one"
    )


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(("umask", "readable_by"), [(0o022, 0o055), (0o027, 0o050), (0o077, 0)])
def test_the_umask_decides_who_may_read_the_files(
    export: Export, target: Path, umask: int, readable_by: int
) -> None:
    before = os.umask(umask)
    try:
        assert export().exit_code == 0
    finally:
        os.umask(before)
    everything = [target, *target.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in everything if path.is_dir()} == {readable_by}
    files = {path.stat().st_mode & 0o077 for path in everything if path.is_file()}
    assert files == {readable_by & 0o044}


def test_two_exports_do_not_write_at_once(export: Export, target: Path) -> None:
    target.mkdir()
    number = os.open(target, os.O_RDONLY)
    flock(number, LOCK_EX)
    refused = export()
    os.close(number)
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (
        1,
        f"Error: another export writes to {target}",
    )
    assert export().exit_code == 0


def test_an_empty_database_has_an_empty_export(export: Export, target: Path) -> None:
    assert report_of(export()) == ("Wrote 0 days with 0 events", "; 0 days unchanged.")
    assert versions(target) == {}


def test_row_groups_are_bounded_by_bytes(tmp_path: Path) -> None:
    text = json.dumps({"x": "y" * 60_000})
    rows: list[list[EventRow]] = [[(str(n), None, "view", n, text)] * 10 for n in range(200)]
    written = write_aside(tmp_path, SECOND.date(), iter(rows))
    metadata = pq.read_metadata(written.aside)
    assert written.rows == metadata.num_rows == 2_000
    assert metadata.num_row_groups == 4


def test_a_file_that_cannot_be_completed_is_removed(tmp_path: Path) -> None:
    """As if the disk were full."""

    def rows() -> Iterator[list[EventRow]]:
        yield [("id", None, "view", 0, "{}")]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_aside(tmp_path, SECOND.date(), rows())
    assert list((tmp_path / "day=2025-02-01").iterdir()) == []


def test_folders_with_similar_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("day=2025-13-99", "day=____-__-__", "day=2025-02-01"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, set())
    assert {each.name for each in tmp_path.iterdir()} == {"day=2025-13-99", "day=____-__-__"}
