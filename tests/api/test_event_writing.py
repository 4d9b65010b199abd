"""POST /events and what PostgreSQL does: waits, deadlocks, connections that die."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from config.database import Database, get_connection
from repo.ingest import Event, HttpEventsRepo, Inserted, as_rows
from services.ingest import http_event_validation
from services.ingest.http_event_validation import ReadEvents, read_valid_events
from tests.api.requests import ndjson, send, stored_rows
from tests.events import insert
from tests.factories import ID, event
from tests.live_server import running
from tests.problems import assert_problem
from tests.repo.test_database import soon
from tests.source_comparison import connected
from tests.wait_until import wait_until
from utils.session_options import INGEST_OPTIONS

LONG_AGO = "2025-01-31T09:00:00+00:00"
_INSERT = "insert into events (event_id, event_name, occurred_at) values (%s, 'view', now())"


def execute(conn: connection, text: str, *values: Any) -> list[Any]:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return cur.fetchall() if cur.description is not None else []


def sessions(conn: connection, more: str = "") -> list[int]:
    """Those that events are written over."""
    text = (
        "select pid from pg_stat_activity where datname = current_database() "
        "and application_name ~ '^analytics-ingest-' " + more
    )
    return [pid for (pid,) in execute(conn, text)]


def writing(conn: connection) -> list[int]:
    """Those that wait for somebody else."""
    return sessions(conn, "and state = 'active' and wait_event_type = 'Lock'")


@contextmanager
def locked(url: str) -> Iterator[connection]:
    """Nobody can write until it is committed."""
    with connected(url) as other:
        execute(other, "begin")
        execute(other, "lock table events in share mode")
        yield other


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_the_same_batch_at_once_is_stored_once(
    service: httpx.Client, conn: connection, threads: ThreadPoolExecutor
) -> None:
    body = ndjson(*(event(n) for n in range(1_000)))
    sent = [threads.submit(send, service, body) for _ in range(5)]
    answers = [sender.result() for sender in sent]
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["accepted"] for answer in answers) == 1_000
    assert sum(answer.json()["duplicates"] for answer in answers) == 4_000
    assert len(stored_rows(conn)) == 1_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """What requests write over."""
    opened = Database(
        database_url,
        size=4,
        waiters=0,
        acquire_timeout_s=1,
        name="analytics-ingest-test",
        options=INGEST_OPTIONS,
    )
    yield opened
    opened.close()


def rows_of(*numbers: int) -> list[str]:
    return as_rows(Event(ID.format(n), "", "view", LONG_AGO, "{}") for n in numbers)


def test_batches_that_overlap_do_not_lock_each_other_out(
    database: Database, conn: connection, threads: ThreadPoolExecutor
) -> None:
    """In whatever order they come; each try here is the only one."""
    together = threading.Barrier(4)

    def insert(numbers: list[int]) -> int:
        repo = HttpEventsRepo(get_connection(database, soon()))
        mixed = rows_of(*random.sample(numbers, len(numbers)))
        together.wait()
        with repo.connection.transaction() as cur:
            inserted: Inserted = HttpEventsRepo.insert.__wrapped__(repo, cur, mixed)  # type: ignore[attr-defined]
        return inserted.inserted

    for first in range(0, 6_000, 300):
        numbers = list(range(first, first + 300))
        assert sum(threads.map(insert, [numbers] * 4)) == 300
    assert len(stored_rows(conn)) == 6_000


def test_a_deadlock_victim_is_retried(
    service: httpx.Client, database_url: str, conn: connection, threads: ThreadPoolExecutor
) -> None:
    """The platform's own writers need not keep any order.

    Ours stores 1 and waits for 2; another one, who has 3, waits for 1; then ours waits for 3.
    """
    with connected(database_url) as gate, connected(database_url) as other:
        execute(gate, "begin")
        execute(gate, _INSERT, ID.format(2))
        sent = threads.submit(send, service, ndjson(event(1), event(2), event(3)))
        wait_until(lambda: len(writing(conn)) == 1, timeout_s=9)
        execute(other, "begin")
        execute(other, "set local deadlock_timeout = '60s'")
        execute(other, _INSERT, ID.format(3))
        waiting = threads.submit(execute, other, _INSERT, ID.format(1))
        wait_until(lambda: is_waiting(conn, other), timeout_s=9)
        execute(gate, "rollback")
        waiting.result(20)
        execute(other, "commit")
        answer = sent.result(20)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"accepted": 1, "duplicates": 2}
    assert stored_rows(conn) == [ID.format(1), ID.format(2), ID.format(3)]


def is_waiting(conn: connection, other: connection) -> bool:
    text = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
    return execute(conn, text, other.info.backend_pid) == [(True,)]


def test_a_connection_that_dies_at_work_is_replaced(
    service: httpx.Client, database_url: str, conn: connection, threads: ThreadPoolExecutor
) -> None:
    with locked(database_url) as other:
        sent = threads.submit(send, service, ndjson({"event_name": "view"}))
        wait_until(lambda: len(writing(conn)) == 1, timeout_s=5)
        (first,) = writing(conn)
        execute(conn, "select pg_terminate_backend(%s)", first)
        wait_until(lambda: bool(writing(conn)) and writing(conn) != [first], timeout_s=5)
        execute(other, "commit")
        assert sent.result(10).json() == {"accepted": 1, "duplicates": 0}
    assert len(stored_rows(conn)) == 1


def test_events_of_an_unacknowledged_commit_count_as_accepted(database: Database) -> None:
    """Its commit went through, and the connection died before it could be told."""
    rows = rows_of(1, 2, 3, 3)
    repo = HttpEventsRepo(get_connection(database, soon()))
    assert [repo.insert(rows), repo.insert(rows)] == [(3, 0), (3, 0)]
    again = HttpEventsRepo(get_connection(database, soon())).insert(rows + rows_of(4))
    assert again == (1, 0)


def test_events_wait_in_a_queue_of_their_own(
    database_url: str, redis_url: str, threads: ThreadPoolExecutor
) -> None:
    more = {"ingest_pool_size": 1, "pool_size": 1, "acquire_timeout_s": 0.2}
    with (
        connected(database_url) as conn,
        running(database_url, redis_url, **more) as service,
        locked(database_url) as other,
    ):
        first = threads.submit(send, service, ndjson(event(1)))
        wait_until(lambda: len(writing(conn)) == 1, timeout_s=5)
        answer = send(service, ndjson(event(2)))
        assert_problem(answer, 503, "busy")
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"].startswith(
            "Too many requests are storing events; nothing was stored"
        )
        assert service.get("/analytics/event-counts").status_code == 200
        execute(other, "commit")
        assert first.result(10).json() == {"accepted": 1, "duplicates": 0}


def test_bodies_are_read_one_after_another(
    service: httpx.Client, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else is reading would come to the barrier meanwhile."""
    together = threading.Barrier(2)
    read: list[str] = []

    def read_slowly(pieces: list[bytes], now: datetime) -> ReadEvents:
        try:
            together.wait(0.2)
            read.append("with another one")
        except threading.BrokenBarrierError:
            read.append("alone")
            together.reset()
        return read_valid_events(pieces, now)

    monkeypatch.setattr(http_event_validation, "read_valid_events", read_slowly)
    sent = [threads.submit(send, service, ndjson(event(n))) for n in range(3)]
    assert [sender.result().json()["accepted"] for sender in sent] == [1, 1, 1]
    assert read == ["alone"] * 3


def test_what_takes_too_long_is_given_up_on_the_server_too(
    database_url: str, redis_url: str
) -> None:
    with (
        connected(database_url) as conn,
        running(database_url, redis_url, request_timeout_s=0.5) as service,
        locked(database_url) as other,
    ):
        answer = send(service, ndjson(event(1)))
        assert_problem(answer, 504, "too-slow")
        assert "an event with an event_id is stored only once" in answer.json()["detail"]
        wait_until(lambda: writing(conn) == [], timeout_s=5)
        execute(other, "commit")
        assert stored_rows(conn) == []


def test_without_postgresql_it_is_said(redis_url: str, database_url: str) -> None:
    with running(database_url, redis_url) as service:
        with connected(database_url) as conn:
            execute(conn, "alter table events rename to others")
        answer = send(service, ndjson(event(1)))
    assert_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "2"
    assert "send them again" in answer.json()["detail"]


def test_a_standby_takes_nothing(database_url: str, redis_url: str) -> None:
    with connected(database_url) as conn:
        name = conn.info.dbname
        execute(conn, f'alter database "{name}" set default_transaction_read_only = on')
    with running(database_url, redis_url) as service:
        assert_problem(send(service, ndjson(event(1))), 503, "unavailable")


def test_a_trigger_of_the_platform_may_refuse(service: httpx.Client, conn: connection) -> None:
    execute(
        conn,
        """
        create function refuse() returns trigger language plpgsql as $$
        begin raise exception 'canary %%', new.user_id; end $$;
        create trigger refusing before insert on events
        for each row when (new.user_id = 'canary') execute function refuse();
        """.replace("%%", "%"),
    )
    answer = send(service, ndjson(event(1), event(2, user_id="canary")))
    assert_problem(answer, 422, "invalid-events", "(event)", payload="canary")
    assert stored_rows(conn) == []
    assert send(service, ndjson(event(1))).json() == {"accepted": 1, "duplicates": 0}


def test_a_refusal_keeps_the_connection(service: httpx.Client, conn: connection) -> None:
    body = ndjson(event(1)).replace(b'{"n": 1}', b'{"n": 1e-140000}')
    seen = set()
    for _ in range(5):
        assert send(service, body).status_code == 422
        seen.update(sessions(conn))
    assert len(seen) == 1


def test_rows_inserted_by_other_programs_count_as_duplicates(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("u", "view", LONG_AGO))
    (known,) = stored_rows(conn)
    answer = send(service, ndjson(event(1, event_id=known), event(2)))
    assert answer.json() == {"accepted": 1, "duplicates": 1}


def test_no_session_stays_in_a_transaction(service: httpx.Client, conn: connection) -> None:
    for body in (ndjson(event(1)), ndjson(event(1)), ndjson(event(2, event_name=""))):
        send(service, body)
    text = "select count(*) from pg_stat_activity where state like 'idle in transaction%%'"
    assert execute(conn, f"{text} and datname = %s", conn.info.dbname) == [(0,)]
