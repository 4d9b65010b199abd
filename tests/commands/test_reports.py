"""What commands tell when a signal, a closed pipe or a lost connection ends them: the truth."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.extensions import connection

from repo import commit_outcome
from tests.adoption import MAP, make_table, run_sql
from tests.cli import handle_signals, run_cli
from tests.events import insert, insert_many
from tests.factories import event
from tests.faults.proxy import Proxy, proxy_to
from tests.wait_until import wait_until

MAIN = [sys.executable, str(Path(__file__).parents[2] / "main.py")]
WAITING = """
select count(*)
from   pg_stat_activity
where  datname = current_database()
and    application_name like 'analytics-%%'
and    wait_event_type = 'Lock'
"""
STATUS = "select pid from pg_stat_activity where application_name ~ '^analytics-status'"
LONG_AGO = datetime.now(UTC) - timedelta(days=400)
# Whoever commits an event of this name takes a while for it.
SLOW = """
create function slow_commit() returns trigger language plpgsql as
'begin perform pg_sleep(1); return null; end';
create constraint trigger slow_commit after insert on events deferrable initially deferred
for each row when (new.event_name = 'slow') execute function slow_commit();
"""
COMMITTING = """
select pid
from   pg_stat_activity
where  datname = current_database()
and    application_name ~ '^analytics-load'
and    wait_event = 'PgSleep'
"""


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return {**os.environ, **urls, "ANALYTICS_REQUEST_TIMEOUT_S": "0.1"}


@contextmanager
def locked(url: str, statement: str) -> Iterator[connection]:
    """What the statement locks is locked until this connection commits."""
    conn = psycopg2.connect(url)
    try:
        conn.cursor().execute(statement)
        yield conn
    finally:
        conn.close()


def interrupted(
    environment: dict[str, str], conn: connection, lock: str, *command: str, number: int
) -> tuple[int, str, str]:
    """The signal comes while a transaction of the command is under way, and waits for a lock."""
    pipe = subprocess.PIPE
    with (
        locked(environment["DATABASE_URL"], lock) as holder,
        subprocess.Popen(
            [*MAIN, *command],
            env=environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
            preexec_fn=handle_signals,
        ) as process,
    ):
        wait_until(lambda: run_sql(conn, WAITING) != [(0,)], timeout_s=60)
        process.send_signal(number)
        time.sleep(0.3)
        holder.commit()
        stdout, complained = process.communicate(timeout=60)
    assert "Traceback" not in complained
    return process.returncode, stdout, complained


def count(conn: connection, table: str = "events") -> int:
    ((result_rows,),) = run_sql(conn, f"select count(*) from {table}")
    return int(result_rows)


def written(path: Path, events: int, **other: str) -> Path:
    path.write_text("".join(json.dumps(event(n, **other)) + "\n" for n in range(events)))
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_load_counts_the_batch_that_was_under_way(
    environment: dict[str, str], conn: connection, tmp_path: Path, number: int
) -> None:
    file = written(tmp_path / "events.ndjson", 5_000)
    command = ("load", str(file), "--batch", "1000")
    code, stdout, complained = interrupted(
        environment, conn, "lock table events in share mode", *command, number=number
    )
    assert count(conn) == 1_000
    assert stdout == f"{file}: read 1,000, inserted 1,000, already there 0, rejected 0\n"
    assert complained.endswith("run the same command again, which stores no event twice\n")
    assert code == 128 + number


def test_demo_counts_the_batch_that_was_under_way(
    environment: dict[str, str], conn: connection
) -> None:
    code, stdout, complained = interrupted(
        environment,
        conn,
        "lock table events in share mode",
        *("demo", "--events", "20000"),
        number=signal.SIGTERM,
    )
    assert stdout == "Made 20,000 demo events of 90 days: inserted 10,000.\n"
    assert complained.endswith("Interrupted: not all of them were inserted.\n")
    assert (code, count(conn)) == (143, 10_000)


def test_adopt_counts_the_batch_that_was_under_way(
    environment: dict[str, str], conn: connection
) -> None:
    make_table(conn, 5_000)
    command = ("adopt", "--table=app_events", *MAP, "--yes", "--batch=100")
    code, stdout, complained = interrupted(
        environment, conn, "lock table events in share mode", *command, number=signal.SIGTERM
    )
    stored = count(conn)
    assert 1_000 < stored < 4_900
    assert re.search(rf"^Copied {stored:,} events in ", stdout, re.MULTILINE)
    assert "Interrupted: run the same command again" in complained
    assert code == 143


def test_retain_counts_the_batch_that_was_under_way(
    environment: dict[str, str], conn: connection
) -> None:
    insert_many(conn, 15_000, LONG_AGO)
    row = f"select from events where occurred_at = '{LONG_AGO}' for update"
    code, stdout, complained = interrupted(
        environment, conn, row, *("retain", "--raw", "90d", "--yes"), number=signal.SIGTERM
    )
    assert re.match("Dropped 10,000 events before ", stdout)
    assert "Interrupted: run the same command again" in complained
    assert (code, count(conn)) == (143, 5_000)


def test_rollup_counts_the_step_that_was_under_way(
    environment: dict[str, str], conn: connection
) -> None:
    assert run_cli("rollup", "--once", **environment).exit_code == 0
    insert_many(conn, 50, LONG_AGO)
    code, stdout, complained = interrupted(
        environment,
        conn,
        "lock table fold_state in exclusive mode",
        *("rollup", "--once"),
        number=signal.SIGINT,
    )
    assert re.match("Folded 50 events in ", stdout)
    assert "main.py rollup --once` to fold the rest." in complained
    assert code == 130


def test_erase_gives_the_receipt_of_the_user_who_was_under_way(
    environment: dict[str, str], conn: connection
) -> None:
    insert(conn, *((user, "view", LONG_AGO) for user in "aabbbc"))
    code, stdout, complained = interrupted(
        environment,
        conn,
        "lock table events in share mode",
        *("erase", "a", "b", "c", "--yes"),
        number=signal.SIGTERM,
    )
    (receipt,) = map(json.loads, stdout.splitlines())
    assert (receipt["events"], count(conn)) == (2, 4)
    assert complained.endswith("Interrupted: 1 of 3 users are erased.\n")
    assert code == 143


def test_verify_does_not_call_true_what_it_did_not_compare(
    environment: dict[str, str], conn: connection
) -> None:
    insert_many(conn, 50, LONG_AGO)
    assert run_cli("rollup", "--once", **environment).exit_code == 0
    lock = "lock table slots in access exclusive mode"
    code, stdout, _ = interrupted(environment, conn, lock, "verify", number=signal.SIGTERM)
    assert re.search(r"0 differ so far, and the rest was not compared\.$", stdout)
    assert code == 143


def test_status_that_is_interrupted_tells_nothing(
    environment: dict[str, str], conn: connection
) -> None:
    lock = "lock table api_keys in access exclusive mode"
    code, told, complained = interrupted(environment, conn, lock, "status", number=signal.SIGTERM)
    assert (code, told, complained) == (143, "", "")


def test_status_whose_connection_is_ended_is_an_error_on_one_line(
    environment: dict[str, str], conn: connection
) -> None:
    pipe = subprocess.PIPE
    with (
        locked(environment["DATABASE_URL"], "lock table api_keys in access exclusive mode"),
        subprocess.Popen(
            [*MAIN, "status"], env=environment, stdout=pipe, stderr=pipe, text=True
        ) as process,
    ):
        wait_until(lambda: run_sql(conn, WAITING) != [(0,)], timeout_s=60)
        run_sql(conn, f"select pg_terminate_backend(pid) from ({STATUS}) as status")
        told, complained = process.communicate(timeout=60)
    assert (process.returncode, told) == (1, "")
    assert complained == "Error: the connection to PostgreSQL was lost\n"


@pytest.mark.parametrize(("output", "code"), [("closed", 141), ("full", 1)])
def test_a_report_that_standard_output_does_not_take_is_told_on_standard_error(
    environment: dict[str, str], conn: connection, tmp_path: Path, output: str, code: int
) -> None:
    files = [written(tmp_path / name, 50) for name in ("a.ndjson", "b.ndjson")]
    message = f"{files[0]}: read 50, inserted 50, already there 0, rejected 0\n"
    done = run_without_reader(environment, output, "load", *map(str, files))
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert "standard output cannot be written: " in done.stderr
    assert "b.ndjson" not in done.stderr
    assert count(conn) == 50


def run_without_reader(
    environment: dict[str, str], output: str, *command: str
) -> "subprocess.CompletedProcess[str]":
    if output == "full":
        stream = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stream = os.pipe()
        os.close(reader)
    try:
        return subprocess.run(
            [*MAIN, *command],
            env=environment,
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(stream)


def test_receipts_are_not_lost_with_standard_output(
    environment: dict[str, str], conn: connection
) -> None:
    insert(conn, *((user, "view", LONG_AGO) for user in "aab"))
    done = run_without_reader(environment, "closed", "erase", "a", "b", "--yes")
    receipt = json.loads(done.stderr.splitlines()[0])
    assert (done.returncode, receipt["events"], count(conn)) == (141, 2, 1)
    assert "Interrupted: 1 of 2 users are erased." in done.stderr


def test_a_key_that_nobody_could_read_is_told_and_not_shown(
    environment: dict[str, str], conn: connection
) -> None:
    done = run_without_reader(environment, "closed", "keys", "create", "app", "--scope", "read")
    assert done.returncode == 141
    assert "The new key of app works, but could not be printed: revoke it" in done.stderr
    assert "ask_" not in done.stderr
    assert run_sql(conn, "select name from api_keys where name = 'app'") == [("app",)]


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with proxy_to(urlsplit(database_url).port or 5432) as opened:
        yield opened


def lost_at_commit(
    proxy: Proxy,
    conn: connection,
    environment: dict[str, str],
    path: Path,
    meanwhile: Callable[[int], None],
) -> tuple[int, str, str]:
    """Load 40 events in batches of 10, and do this while the third of them is committed.

    It is told the process of PostgreSQL that commits.
    """
    run_sql(conn, SLOW)
    lines = [event(n, event_name="slow" if n == 25 else "view") for n in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = urlsplit(environment["DATABASE_URL"])
    proxied_url = environment["DATABASE_URL"].replace(f":{parts.port}/", f":{proxy.port}/")

    def interfere() -> None:
        wait_until(lambda: bool(run_sql(conn, COMMITTING)), timeout_s=60)
        meanwhile(run_sql(conn, COMMITTING)[0][0])

    thread = threading.Thread(target=interfere)
    thread.start()
    done = run_cli("load", path, "--batch", "10", **{**environment, "DATABASE_URL": proxied_url})
    thread.join()
    return done.exit_code, done.stdout, done.stderr


def test_a_commit_whose_answer_was_lost_is_looked_up(
    proxy: Proxy, conn: connection, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "events.ndjson"

    def lose_the_answer(_: int) -> None:
        proxy.mode = "mute"
        wait_until(lambda: count(conn) == 30, timeout_s=20)
        proxy.mode = "pass"
        proxy.cut()

    code, stdout, complained = lost_at_commit(proxy, conn, environment, path, lose_the_answer)
    assert stdout == f"{path}: read 30, inserted 30, already there 0, rejected 0\n"
    assert "the connection to PostgreSQL was lost" in complained
    assert (code, count(conn)) == (1, 30)


def test_a_commit_that_was_undone_is_not_counted(
    proxy: Proxy, conn: connection, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "events.ndjson"

    def end(process: int) -> None:
        run_sql(conn, "select pg_terminate_backend(%s)", process)

    code, stdout, complained = lost_at_commit(proxy, conn, environment, path, end)
    assert stdout == f"{path}: read 20, inserted 20, already there 0, rejected 0\n"
    assert "may have been stored" not in complained
    assert (code, count(conn)) == (1, 20)


def test_a_commit_that_nobody_can_ask_about_is_told_as_such(
    proxy: Proxy,
    conn: connection,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit_outcome, "_STATUS_TIMEOUT_S", 0.5)
    path = tmp_path / "events.ndjson"
    code, stdout, complained = lost_at_commit(
        proxy, conn, environment, path, lambda _: proxy.refuse()
    )
    assert stdout == f"{path}: read 20, inserted 20, already there 0, rejected 0\n"
    assert "whose outcome is unknown: up to 10 more events may have been stored" in complained
    assert code == 1
