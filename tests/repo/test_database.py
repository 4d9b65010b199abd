"""The guarded pool, against a server whose own view of its sessions is what counts."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from io import StringIO
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INTRANS,
    connection,
)
from psycopg2.pool import PoolError

from common.decorators import in_transaction, with_cursor
from config.database import Connection, Cursor, Database, get_connection
from config.database_errors import (
    DatabaseUnavailable,
    DeadlineExceeded,
    PoolBusy,
    SerializationFailure,
)
from tests.wait_until import adjusted_for_load, wait_until
from utils import postgres

NAME = "analytics-pool-test"
SIZE = 3


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, size=SIZE, waiters=200, acquire_timeout_s=5, name=NAME)
    yield opened
    opened.close()


def only(row: tuple[Any, ...] | None) -> Any:
    assert row is not None
    return row[0]


def sessions(conn: connection, state: str = "%") -> int:
    with conn.cursor() as cur:
        cur.execute(
            "select count(*) from pg_stat_activity where application_name = %s and state like %s",
            (NAME, state),
        )
        return int(only(cur.fetchone()))


def kill_sessions(conn: connection, state: str = "%") -> int:
    with conn.cursor() as cur:
        cur.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where application_name = %s and state like %s",
            (NAME, state),
        )
        return int(only(cur.fetchone()))


def query(connection: Connection, text: str) -> Callable[[], Any]:
    def work() -> Any:
        with connection.snapshot() as cur:
            cur.execute(text)
            return only(cur.fetchone())

    return work


async def ask(database: Database, text: str, timeout_s: float = 20) -> Any:
    connection = get_connection(database, time.monotonic() + timeout_s)
    return await connection.run(query(connection, text))


def soon() -> float:
    return time.monotonic() + 20


def test_threads_cannot_open_more_than_the_limit(database: Database, conn: connection) -> None:
    together = threading.Barrier(24)

    def take(_: int) -> connection | None:
        together.wait()
        try:
            return database.pool.getconn()
        except PoolError:
            return None

    with ThreadPoolExecutor(24) as threads:
        connections = [got for got in threads.map(take, range(24)) if got]
    assert len(connections) == SIZE
    assert sessions(conn) == SIZE
    for got in connections:
        database.pool.putconn(got)


def test_many_callers_share_few_connections_and_threads(
    database: Database, conn: connection
) -> None:
    async def all_at_once() -> list[Any]:
        calls = [ask(database, "select 1 from pg_sleep(0.01)") for _ in range(150)]
        return await asyncio.gather(*calls)

    assert asyncio.run(all_at_once()) == [1] * 150
    assert sessions(conn) <= SIZE
    assert database.stats.opened <= SIZE
    assert sum(thread.name.startswith(NAME) for thread in threading.enumerate()) <= SIZE
    assert (database.stats.in_use, database.stats.waiting) == (0, 0)


def test_waiting_has_an_end(database_url: str) -> None:
    database = Database(database_url, size=1, waiters=5, acquire_timeout_s=0.2, name=NAME)

    async def second_of_two() -> float:
        first = asyncio.create_task(ask(database, "select 1 from pg_sleep(3)"))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(PoolBusy):
            await ask(database, "select 1")
        duration = time.monotonic() - began
        assert await first == 1
        return duration

    assert 0.15 < asyncio.run(second_of_two()) < adjusted_for_load(0.5)
    database.close()


def test_the_queue_has_an_end(database_url: str) -> None:
    database = Database(database_url, size=1, waiters=2, acquire_timeout_s=5, name=NAME)

    async def four() -> list[Any]:
        calls = [ask(database, "select 1 from pg_sleep(0.1)") for _ in range(4)]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(four())
    assert [type(answer) for answer in answers] == [int, int, int, PoolBusy]
    database.close()


def test_the_deadline_ends_the_query_on_the_server_too(
    database: Database, conn: connection
) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        asyncio.run(ask(database, "select 1 from pg_sleep(10)", timeout_s=0.3))
    assert time.monotonic() - began < adjusted_for_load(0.8)
    wait_until(lambda: sessions(conn, "active") == 0, timeout_s=1.5)
    assert asyncio.run(ask(database, "select 1")) == 1


def test_a_caller_that_gives_up_ends_its_query(database: Database, conn: connection) -> None:
    async def give_up() -> None:
        task = asyncio.create_task(ask(database, "select 1 from pg_sleep(10)"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(adjusted_for_load(1.5)):
            while database.stats.in_use:
                await asyncio.sleep(0.01)

    asyncio.run(give_up())
    wait_until(lambda: sessions(conn, "active") == 0, timeout_s=1.5)


def test_idle_connections_that_died_cost_no_request(database: Database, conn: connection) -> None:
    async def warm() -> None:
        await asyncio.gather(*(ask(database, "select 1 from pg_sleep(0.05)") for _ in range(SIZE)))

    asyncio.run(warm())
    assert kill_sessions(conn) == SIZE
    wait_until(lambda: sessions(conn) == 0, timeout_s=2)
    assert [asyncio.run(ask(database, "select 1")) for _ in range(10)] == [1] * 10


def test_a_connection_that_dies_at_work_leaves_its_place(
    database: Database, conn: connection
) -> None:
    async def killed() -> None:
        task = asyncio.create_task(ask(database, "select 1 from pg_sleep(10)"))
        while not sessions(conn, "active"):
            await asyncio.sleep(0.01)
        kill_sessions(conn, "active")
        with pytest.raises(DatabaseUnavailable):
            await task

    for _ in range(3 * SIZE):
        asyncio.run(killed())
    assert asyncio.run(ask(database, "select 1")) == 1


class _Repo:
    """As all repos are, with a method that waits for its connection to be killed once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.calls = 0

    @with_cursor
    def get_seven(self, cur: Cursor) -> int:
        self.calls += 1
        cur.execute("select 7 from pg_sleep(%s)", (10 if self.calls == 1 else 0,))
        return int(only(cur.fetchone()))


def test_a_read_whose_connection_dies_is_done_once_more(
    database: Database, conn: connection
) -> None:
    repo = _Repo(get_connection(database, soon()))

    async def killed_once() -> int:
        task = asyncio.create_task(repo.connection.run(repo.get_seven))
        while not sessions(conn, "active"):
            await asyncio.sleep(0.01)
        kill_sessions(conn, "active")
        return await task

    assert asyncio.run(killed_once()) == 7
    assert repo.calls == 2


class _Written:
    """A repo whose transaction is undone as often as it is told."""

    def __init__(self, connection: Connection, undone: int) -> None:
        self.connection = connection
        self.undone = undone
        self.calls = 0

    @in_transaction
    def get_seven(self, cur: Cursor) -> int:
        self.calls += 1
        if self.calls <= self.undone:
            cur.execute("do $$ begin raise sqlstate '40P01'; end $$")
        cur.execute("select 7")
        return int(only(cur.fetchone()))


def test_a_transaction_begins_with_its_first_statement(database: Database) -> None:
    connection = get_connection(database, soon())
    with connection.transaction() as cur:
        assert cur.connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        cur.copy_expert("copy (select 1) to stdout", copied := StringIO())
        assert copied.getvalue() == "1\n"
        assert cur.connection.info.transaction_status == TRANSACTION_STATUS_INTRANS
        cur.execute("select current_setting('statement_timeout') not in ('0', '1min'), %s", (7,))
        assert cur.fetchone() == (True, 7)


def test_a_transaction_is_rolled_back_on_an_error(database: Database) -> None:
    connection = get_connection(database, soon())

    def fail() -> None:
        with connection.transaction() as cur:
            cur.execute("select set_config('analytics.canary', 'x', false)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with connection.transaction() as cur:
        cur.execute("select coalesce(current_setting('analytics.canary', true), '')")
        assert cur.fetchone() == ("",)


@pytest.mark.parametrize("undone", [1, 2])
def test_a_transaction_that_is_undone_is_done_again(database: Database, undone: int) -> None:
    repo = _Written(get_connection(database, soon()), undone)
    assert asyncio.run(repo.connection.run(repo.get_seven)) == 7
    assert repo.calls == undone + 1


def test_a_transaction_that_is_undone_again_and_again_is_given_up(database: Database) -> None:
    repo = _Written(get_connection(database, soon()), 9)
    with pytest.raises(SerializationFailure):
        asyncio.run(repo.connection.run(repo.get_seven))
    assert repo.calls == 3


def test_a_read_that_was_given_up_is_not_done_again(database: Database) -> None:
    repo = _Repo(get_connection(database, time.monotonic() + 0.3))

    async def given_up() -> None:
        with pytest.raises(DeadlineExceeded):
            await repo.connection.run(repo.get_seven)
        async with asyncio.timeout(adjusted_for_load(1.5)):
            while database.stats.in_use:
                await asyncio.sleep(0.01)

    asyncio.run(given_up())
    assert repo.calls == 1


def poll_for(database: Database, seconds: float) -> None:
    async def poll() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await database.maintain_forever(every_s=0.02)

    asyncio.run(poll())


def test_the_pool_is_kept_full(database: Database, conn: connection) -> None:
    poll_for(database, 0.3)
    assert sessions(conn) == SIZE
    assert (database.stats.opened, database.stats.discarded) == (SIZE, 0)
    kill_sessions(conn)
    poll_for(database, 0.3)
    assert sessions(conn) == SIZE


def test_connections_grow_old(database_url: str, conn: connection) -> None:
    database = Database(
        database_url, size=SIZE, waiters=1, acquire_timeout_s=1, lifetime_s=0.2, name=NAME
    )
    poll_for(database, 0.6)
    assert database.stats.discarded >= SIZE
    assert sessions(conn) <= SIZE
    database.close()


def test_a_connection_whose_database_could_not_be_identified_is_soon_replaced(
    database_url: str,
) -> None:
    def fails(_: connection) -> str | None:
        raise psycopg2.errors.QueryCanceled

    opened = Database(
        database_url, size=1, waiters=0, acquire_timeout_s=1, name="unidentified", identify=fails
    )
    lent = opened.pool.getconn()
    assert (lent.identity, lent.retire_at <= time.monotonic() + 10) == (None, True)
    opened.pool.putconn(lent)
    opened.close()


@pytest.mark.parametrize("statement", ["is_direct", "identify"])
def test_closing_does_not_wait_for_a_new_connection(
    database_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """One whose server does not answer a statement on new connections, as if it were silent."""

    def sleep(new: connection) -> Any:
        with new.cursor() as cur:
            cur.execute("select pg_sleep(600)")

    identify = sleep if statement == "identify" else None
    database = Database(
        database_url, size=1, waiters=1, acquire_timeout_s=5, name=NAME, identify=identify
    )
    if statement == "is_direct":
        monkeypatch.setattr(postgres, "is_direct", sleep)
        monkeypatch.setattr(database.pool, "_search_path", "public")
    # In a thread of the pool, which `close` waits for.
    refreshing = database._threads.submit(database.pool.refresh)
    wait_until(lambda: sessions(conn, "active") == 1, timeout_s=5)
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(database.close)
        try:
            closing.result(timeout=adjusted_for_load(10))
        finally:
            database.pool.closed = True  # else the threads of a failure would never end
    with suppress(psycopg2.Error):  # of a connection that was aborted
        refreshing.result(timeout=1)


def test_a_database_that_is_away_is_not_tried_by_everybody() -> None:
    """A connect that fails takes 2 seconds where packets vanish; here its tries are counted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        url = f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/nothing"
        database = Database(url, size=SIZE, waiters=50, acquire_timeout_s=5, name=NAME)
        tries = _HangsUp(server)
        with tries:
            for _ in range(50):
                with pytest.raises(DatabaseUnavailable):
                    asyncio.run(ask(database, "select 1"))
        assert 1 <= tries.count <= 2
        database.close()


class _HangsUp(AbstractContextManager["_HangsUp"]):
    """Takes connections and hangs up at once, until it is left."""

    def __init__(self, server: socket.socket) -> None:
        self.count = 0
        self._server = server
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        while not self._left.is_set():
            with suppress(TimeoutError):
                self._server.accept()[0].close()
                self.count += 1

    def __enter__(self) -> "_HangsUp":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()


def test_a_snapshot_does_not_change(database: Database, conn: connection) -> None:
    with get_connection(database, soon()).snapshot() as cur:
        cur.execute("select count(*) from events")
        before = cur.fetchone()
        conn.cursor().execute(
            "insert into events (event_id, event_name, occurred_at) "
            "values (gen_random_uuid(), 'x', now())"
        )
        cur.execute("select count(*) from events")
        assert cur.fetchone() == before == (0,)
    assert asyncio.run(ask(database, "select count(*) from events")) == 1


def test_questions_cannot_write(database: Database) -> None:
    with (
        pytest.raises(psycopg2.errors.ReadOnlySqlTransaction),
        get_connection(database, soon()).snapshot() as cur,
    ):
        cur.execute("create table t (x int)")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TimeZone", "UTC"),
        ("default_transaction_read_only", "on"),
        ("lock_timeout", "500ms"),
        ("transaction_read_only", "on"),
        ("idle_in_transaction_session_timeout", "65s"),
        ("client_connection_check_interval", "500ms"),
        ("transaction_isolation", "repeatable read"),
    ],
)
def test_sessions_have_their_settings(database: Database, setting: str, value: str) -> None:
    assert asyncio.run(ask(database, f"show {setting}")) == value


def test_a_question_may_compute_between_its_statements(database: Database) -> None:
    """As long as it has time: PostgreSQL does not end its snapshot before."""
    with get_connection(database, soon()).snapshot() as cur:
        cur.execute("select 1")
        time.sleep(6)
        cur.execute("select 2")
        assert cur.fetchone() == (2,)


def test_a_session_has_a_limit_of_its_own(database: Database) -> None:
    """For what would forget to set one."""
    conn = database.pool.getconn()
    with conn.cursor() as cur:
        cur.execute("show statement_timeout")
        assert cur.fetchone() == ("1min",)
    database.pool.putconn(conn)


def test_nobody_is_left_in_a_transaction(database: Database, conn: connection) -> None:
    asyncio.run(ask(database, "select 1"))
    with pytest.raises(psycopg2.errors.DivisionByZero):
        asyncio.run(ask(database, "select 1 / 0"))
    assert sessions(conn, "idle in transaction%") == 0


def test_a_database_that_is_away_is_told_at_once() -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    database = Database(url, size=1, waiters=1, acquire_timeout_s=1, name=NAME)
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(ask(database, "select 1"))
    database.close()
