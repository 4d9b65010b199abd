"""`python main.py rollup`, by hand and beside the service."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg2
import pytest
from click.testing import Result
from psycopg2.extensions import connection

from commands import rollup as rollup_module
from repo.rollups import daily_stats_store
from repo.rollups.rollup_writer import RollupWriter
from tests.cli import run_cli
from tests.events import insert
from tests.wait_until import wait_until
from utils.time.zones import zone

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, str(ROOT / "main.py")]
NOON = "2026-03-20T12:00:00Z"


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "ANALYTICS_PORT": "0"}
    return {**os.environ, **urls}


def rollup(environment: dict[str, str], *arguments: str) -> Result:
    return run_cli("rollup", *arguments, **environment)


def one(conn: connection, text: str) -> Any:
    with conn.cursor() as cur:
        cur.execute(text)
        (value,) = cur.fetchone() or (None,)
        return value


def folded(conn: connection) -> int:
    """The events that are in slots."""
    return int(one(conn, "select coalesce(sum(events), 0) from slots where name_id = 0"))


def rollup_sessions(conn: connection) -> int:
    return int(
        one(
            conn,
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and application_name ~ '^analytics-rollup'",
        )
    )


def test_once_folds_what_is_there(environment: dict[str, str], conn: connection) -> None:
    insert(conn, ("u", "view", NOON), ("u", "view", NOON))
    output = rollup(environment, "--once").stdout
    assert re.fullmatch(r"Folded 2 events in \d+\.\d s; none waits\.\n", output)
    assert re.match(r"Folded 0 events", rollup(environment, "--once").stdout)
    assert folded(conn) == 2


# Of 501 days one in 20 has an event, which comes in whenever days are counted.
STREAM = """
create function write_events() returns trigger language plpgsql as $$ begin
    insert into events (event_id, event_name, occurred_at)
    select gen_random_uuid(), 'view', moment
    from   generate_series(now() - interval '500 days', now(), interval '20 days') as moment;
    return null;
end $$;
create trigger write_events after insert on day_users for each statement
execute function write_events();
"""
WAITING = (
    r"Folded ([\d,]+) events in \d+\.\d s; (\d+) came in meanwhile and wait\. "
    r"The daily statistics of (\d+) days are not counted yet\.\n"
)


def test_what_waits_at_the_end_is_told(
    environment: dict[str, str], conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A steady stream of events does not keep it for ever."""
    monkeypatch.setattr(daily_stats_store, "LONG_TAIL", 26)
    conn.cursor().execute(STREAM)
    insert(conn, ("u", "view", datetime.now(UTC) - timedelta(days=500)))
    output = rollup(environment, "--once").stdout
    match = re.fullmatch(WAITING, output)
    assert match is not None, output
    events, due = (
        one(conn, "select count(*) from events"),
        one(conn, "select count(*) from daily_stats_queue"),
    )
    assert match.groups() == (str(folded(conn)), str(events - folded(conn)), str(due))
    assert (match[2], due > 100) == ("26", True)
    conn.cursor().execute("drop trigger write_events on day_users")
    output = rollup(environment, "--once").stdout
    assert re.fullmatch(r"Folded 26 events in \d+\.\d s; none waits\.\n", output)
    assert one(conn, "select count(*) from daily_stats_queue") == 0


def waiting_sessions(conn: connection) -> int:
    return int(
        one(
            conn,
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and wait_event_type = 'Lock' and query like '%fold_lock%'",
        )
    )


def test_what_another_process_folds_meanwhile_is_told(
    environment: dict[str, str], conn: connection, database_url: str
) -> None:
    """The other one comes first to the lock that both wait for."""
    rollup(environment, "--once")
    insert(conn, *[("u", "view", NOON)] * 3)
    with (
        closing(psycopg2.connect(database_url)) as holder,
        closing(psycopg2.connect(database_url)) as others,
        ThreadPoolExecutor(2) as threads,
    ):
        holder.cursor().execute("lock table fold_state in exclusive mode")
        others.autocommit = True
        other = threads.submit(RollupWriter(others, [zone("UTC")]).catch_up)
        wait_until(lambda: waiting_sessions(conn) == 1, timeout_s=20)
        ours = threads.submit(rollup, environment, "--once")
        wait_until(lambda: waiting_sessions(conn) == 2, timeout_s=20)
        holder.rollback()
        assert other.result() == 3
    assert re.fullmatch(
        r"Folded 0 events in \d+\.\d s; another process folded 3 meanwhile\. None waits\.\n",
        ours.result().stdout,
    )


def test_a_rebuild_takes_the_place_of_what_was(
    environment: dict[str, str], conn: connection
) -> None:
    insert(conn, ("u", "view", NOON))
    rollup(environment, "--once")
    conn.cursor().execute("update slots set events = 7")
    assert rollup(environment, "--rebuild").stdout.startswith("Folded 1 event")
    assert folded(conn) == 1
    assert one(conn, "select array_agg((generation, is_current)::text) from fold_state") == [
        "(2,t)"
    ]
    assert one(conn, "select count(distinct generation) from spans") == 1


def test_a_day_that_fails_is_told_and_the_others_are_counted(
    environment: dict[str, str], conn: connection
) -> None:
    insert(conn, ("u", "view", NOON))
    conn.cursor().execute(
        "alter table day_users add constraint refused check (day <> '2026-03-21') not valid"
    )
    result = rollup(environment, "--once")
    assert result.exit_code == 1
    assert result.stdout.startswith("Folded 1 event")
    assert result.stderr.splitlines()[-1] == (
        "Error: 1 day of the daily statistics could not be counted, and all others were: "
        "UTC 2026-03-21. The log says why."
    )
    assert one(conn, "select mau from day_users where day = '2026-03-20'") == 1
    assert one(conn, "select mau from day_users where day = '2026-03-22'") == 1


def test_a_database_that_is_away_is_told_in_one_line(environment: dict[str, str]) -> None:
    away = {**environment, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    result = rollup(away, "--once")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PostgreSQL cannot be reached")
    assert "Traceback" not in result.stderr


@contextmanager
def running(environment: dict[str, str], command: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [*MAIN, command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def child(process: "subprocess.Popen[bytes]") -> int | None:
    """The rollup worker that the service started."""
    children = Path(f"/proc/{process.pid}/task")
    for task in children.glob("*/children"):
        for pid in map(int, task.read_text().split()):
            if b"rollup" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def test_the_service_restarts_its_rollup_worker(
    environment: dict[str, str], conn: connection
) -> None:
    """It folds by itself, is started again when it is killed, and ends with the service."""
    with running(environment, "serve") as process:
        insert(conn, ("u", "view", NOON))
        wait_until(lambda: folded(conn) == 1, timeout_s=10)
        victim = child(process)
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: child(process) not in (None, victim), timeout_s=5)
        insert(conn, ("u", "view", NOON))
        wait_until(lambda: folded(conn) == 2, timeout_s=10)
        assert rollup_sessions(conn) == 1
    wait_until(lambda: rollup_sessions(conn) == 0, timeout_s=5)


def test_samples_are_verified_and_properties_counted_beside_it(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Barrier(3)
    for worker in ("verify_forever", "count_forever", "fold_forever"):
        monkeypatch.setattr(rollup_module, worker, lambda *_: begun.wait(5))
    assert rollup(environment).exit_code == 0
    assert not begun.broken


def test_the_rollup_worker_survives_a_lost_connection(
    environment: dict[str, str], conn: connection
) -> None:
    with running(environment, "rollup") as process:
        insert(conn, ("u", "view", NOON))
        wait_until(lambda: folded(conn) == 1, timeout_s=10)
        one(
            conn,
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where datname = current_database() and application_name ~ '^analytics-rollup'",
        )
        insert(conn, ("u", "view", NOON))
        wait_until(lambda: folded(conn) == 2, timeout_s=10)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM  # at once, whatever it is at
