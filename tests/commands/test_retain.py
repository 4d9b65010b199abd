"""`python main.py retain`: asks, waits for all who write, and can be killed at any moment."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

import pytest
from click.testing import CliRunner, Result
from psycopg2.extensions import connection

from commands.verify import verify_all
from common.errors import EventsDropped
from common.questions.event_counts import EventCounts
from common.questions.user_events import UserEvents
from config.database import Database, get_connection
from main import cli
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.source_comparison import connected, finished
from tests.wait_until import wait_until
from utils.time.zones import zone

MAIN = [sys.executable, str(Path(__file__).parents[2] / "main.py")]
ZONES = [zone("UTC")]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
HORIZON = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - 90 * DAY
OLD, YOUNG = HORIZON - 10 * DAY, HORIZON + 10 * DAY
HORIZON_TEXT = f"{HORIZON:%Y-%m-%dT%H:%M:%SZ}"
MANY = """
insert into events (event_id, user_id, event_name, occurred_at)
select gen_random_uuid(), 'u' || mod(n, 100), 'view', %s - n * interval '1 second'
from   generate_series(1, %s) as n
"""
RETAINED = """
select count(*) filter (where occurred_at < %s), count(*) filter (where occurred_at >= %s)
from   events
"""
FULL_RANGE = EventCounts(start=HORIZON - 30 * DAY, end=HORIZON + 30 * DAY, interval="day")


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return {**os.environ, **urls, "ANALYTICS_REQUEST_TIMEOUT_S": "0.1"}


@pytest.fixture
def repo(database_url: str) -> Iterator[EventsRepo]:
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="retain")
    yield EventsRepo(get_connection(database, time.monotonic() + 600))
    database.close()


def retain(environment: dict[str, str], *more: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["retain", "--raw", "90days", *more], stdin, environment)


@contextmanager
def retaining(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    command = [*MAIN, "retain", "--raw", "90d", "--yes"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def rows(conn: connection, text: str, *values: object) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return cur.fetchall()


def retained_rows(conn: connection) -> tuple[Any, ...]:
    """The events there are of before the horizon, and since."""
    return rows(conn, RETAINED, HORIZON, HORIZON)[0]


def horizon(conn: connection) -> datetime | None:
    result_rows = rows(conn, "select horizon from retention")
    return result_rows[0][0] if result_rows else None


def some(conn: connection) -> None:
    insert(conn, *(("u", "view", OLD) for _ in range(3)), ("v", "view", YOUNG))


def counted(repo: EventsRepo) -> tuple[int, int]:
    data = finished(repo.get_event_counts(FULL_RANGE.query)).data
    assert sum(bucket.events for bucket in data.series) == data.events
    return data.events, data.users


def test_it_asks_first(environment: dict[str, str], conn: connection) -> None:
    some(conn)
    result = retain(environment, stdin="n\n")
    assert result.exit_code == 1
    assert f"Drop 3 events before {HORIZON_TEXT}" in result.stdout
    assert (retained_rows(conn), horizon(conn)) == ((3, 1), None)
    insert(conn, ("u", "view", OLD))
    assert retain(environment, stdin="y\n").exit_code == 0
    assert (retained_rows(conn), horizon(conn)) == ((0, 1), HORIZON)


def test_what_was_counted_stays(
    environment: dict[str, str], conn: connection, repo: EventsRepo, database_url: str
) -> None:
    some(conn)
    done = retain(environment, "--yes")
    assert done.exit_code == 0, done.stderr
    message = rf"Dropped 3 events before {HORIZON_TEXT} in [\d.]+ s, and vacuumed in [\d.]+ s\.\n"
    assert re.fullmatch(message, done.stdout), done.stdout
    assert counted(repo) == (4, 2)
    again = retain(environment, "--yes")
    assert again.stdout.startswith("Dropped 0 events"), again.stderr
    insert(conn, ("w", "view", OLD), ("w", "view", YOUNG))
    assert retained_rows(conn) == (0, 2)
    assert counted(repo) == (5, 3)
    RollupWriter(conn, ZONES).catch_up()
    assert verify_all(database_url, ZONES).listed == []


def test_the_horizon_never_moves_back(environment: dict[str, str], conn: connection) -> None:
    some(conn)
    retain(environment, "--yes")
    done = retain(environment, "--yes", "--raw", "13months")
    assert done.exit_code == 0
    assert f"Events before {HORIZON_TEXT} are dropped already." in done.stderr
    assert horizon(conn) == HORIZON


@pytest.mark.parametrize("age", ["90", "0d", "24h", "90 days", "1.5y", "forever", "99y"])
def test_an_age_that_is_none_is_refused(age: str, environment: dict[str, str]) -> None:
    done = retain(environment, "--raw", age, "--yes")
    assert done.exit_code == 2
    assert re.search(r"days, weeks, months, quarters or years|before 2000", done.stderr)


@pytest.mark.parametrize(
    ("age", "reason"),
    [("30d", "must not be shorter than --raw"), ("Forever", "days, weeks"), ("99y", "before 2000")],
)
def test_columns_must_not_be_dropped_before_events(
    age: str, reason: str, environment: dict[str, str], conn: connection
) -> None:
    some(conn)
    done = retain(environment, "--columns", age, "--yes")
    assert done.exit_code == 2
    assert "Invalid value for" in done.stderr
    assert "--columns" in done.stderr
    assert reason in done.stderr
    assert retained_rows(conn) == (3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], f"cannot reach before {HORIZON_TEXT} any more"),
        (["--columns", "forever"], "Filters on properties stay exact."),
    ],
)
def test_the_confirmation_says_what_happens_to_properties(
    options: list[str], message: str, environment: dict[str, str], conn: connection
) -> None:
    some(conn)
    assert message in retain(environment, *options, stdin="n\n").stdout


def test_rollups_that_are_wrong_are_not_all_that_is_kept(
    environment: dict[str, str], conn: connection
) -> None:
    some(conn)
    RollupWriter(conn, ZONES).catch_up()
    conn.cursor().execute("update slots set events = 9 where slot = (select min(slot) from slots)")
    done = retain(environment, "--yes")
    assert done.exit_code == 1
    assert "all names: stored 9 events, 1 user; expected 3 events, 1 user" in done.stdout
    assert "Nothing was dropped" in done.stdout
    insert(conn, ("u", "view", OLD))
    assert (retained_rows(conn), horizon(conn)) == ((4, 1), None)
    RollupWriter(conn, ZONES).rebuild()
    assert retain(environment, "--yes").stdout.startswith("Dropped 4 events")


def test_killed_in_the_middle_it_is_run_again(
    environment: dict[str, str], conn: connection, repo: EventsRepo, database_url: str
) -> None:
    """What is half gone is gone for those who ask."""
    rows(conn, MANY + " returning 1", HORIZON, 60_000)
    insert(conn, ("v", "view", YOUNG))
    RollupWriter(conn, ZONES).catch_up()
    before = finished(repo.get_event_counts(FULL_RANGE.query)).data
    with retaining(environment) as process:
        wait_until(lambda: retained_rows(conn)[0] < 60_000, timeout_s=30)
        assert finished(repo.get_event_counts(FULL_RANGE.query)).data == before
        process.kill()
        process.wait()
    assert 0 < retained_rows(conn)[0] < 60_000
    assert finished(repo.get_event_counts(FULL_RANGE.query)).data == before
    assert repo.get_user_events(UserEvents(user_id="u1").query).data == []
    finer = EventCounts(start=HORIZON - timedelta(minutes=20), end=HORIZON)
    with pytest.raises(EventsDropped):
        repo.get_event_counts(finer.query)
    RollupWriter(conn, ZONES).rebuild()
    assert finished(repo.get_event_counts(FULL_RANGE.query)).data == before
    assert verify_all(database_url, ZONES).listed == []
    assert retain(environment, "--yes").exit_code == 0
    assert retained_rows(conn) == (0, 1)
    assert finished(repo.get_event_counts(FULL_RANGE.query)).data == before


def test_it_tells_which_transaction_it_waits_for(
    environment: dict[str, str], conn: connection, repo: EventsRepo, database_url: str
) -> None:
    """What that one has written is counted; others write on."""
    some(conn)
    with connected(database_url) as other, other.cursor() as cur:
        cur.execute("begin")
        insert(other, ("w", "view", OLD))
        cur.execute("prepare transaction 'kept open'")
    with retaining(environment) as process:
        line = ""
        while "Waiting" not in line:
            line = cast(IO[str], process.stderr).readline()
        assert line.startswith("Waiting for the transaction 'kept open' that was prepared at")
        insert(conn, ("x", "view", OLD))
        conn.cursor().execute("commit prepared 'kept open'")
        out, err = process.communicate(timeout=30)
    assert out.startswith("Dropped 5 events"), err
    assert counted(repo) == (6, 4)


def test_nothing_of_what_eight_write_meanwhile_is_lost(
    environment: dict[str, str], conn: connection, repo: EventsRepo, database_url: str
) -> None:
    """Old events too, some late in transactions; each is either counted or refused."""
    some(conn)
    stop = threading.Event()
    written: list[int] = []
    writers = [
        threading.Thread(target=_write, args=(database_url, stop, written, n)) for n in range(8)
    ]
    for writer in writers:
        writer.start()
    try:
        done = retain(environment, "--yes")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert done.exit_code == 0, done.stderr
    assert retained_rows(conn)[0] == 0
    assert counted(repo)[0] == 4 + sum(written)
    RollupWriter(conn, ZONES).catch_up()
    assert counted(repo)[0] == 4 + sum(written)
    assert verify_all(database_url, ZONES).listed == []


WRITE = """
insert into events (event_id, user_id, event_name, occurred_at)
values (gen_random_uuid(), %s, 'view', %s)
"""


def _write(url: str, stop: threading.Event, acknowledged: list[int], number: int) -> None:
    """The last of them holds its transactions open for a while."""
    with connected(url) as conn, conn.cursor() as cur:
        count = 0
        while not stop.is_set():
            is_accepted = 0
            cur.execute("begin")
            for n in range(10):
                instant = (OLD if n % 2 else YOUNG) + timedelta(seconds=count % 5_000)
                cur.execute("savepoint s")
                cur.execute(WRITE, (f"w{number}", instant))
                inserted, count = cur.rowcount, count + 1
                cur.execute("rollback to s" if n % 5 == 4 else "release s")
                is_accepted += 0 if n % 5 == 4 else inserted
            stop.wait(0.5 if number == 7 else 0.002)
            cur.execute("rollback" if count % 3 == 0 else "commit")
            acknowledged.append(0 if count % 3 == 0 else is_accepted)


def test_the_loader_tells_which_events_are_too_old(
    environment: dict[str, str], conn: connection, tmp_path: Path
) -> None:
    some(conn)
    retain(environment, "--yes")
    file = tmp_path / "events.ndjson"
    moments = [YOUNG, OLD, HORIZON, HORIZON - timedelta.resolution, NOW - DAY]
    file.write_text("".join(_ndjson_line(n, instant) for n, instant in enumerate(moments, 1)))
    done = CliRunner().invoke(cli, ["load", str(file)], env=environment)
    reason = f"occurred_at must not be before {HORIZON_TEXT}: older events are no longer accepted"
    assert f"2 rejected: {reason}" in done.stdout
    assert "inserted 3, already there 0, rejected 2" in done.stdout
    rejected = map(json.loads, Path(f"{file}.rejected.ndjson").read_text().splitlines())
    assert [(row["line"], row["reason"]) for row in rejected] == [(2, reason), (4, reason)]
    assert retained_rows(conn) == (0, 4)


def _ndjson_line(number: int, instant: datetime) -> str:
    event = {"event_id": f"00000000-0000-4000-8000-{number:012}", "event_name": "view"}
    return json.dumps({**event, "occurred_at": instant.isoformat()}) + "\n"
