"""Access to PostgreSQL: the connection pool, and the connection of a request."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, NoReturn, TypeVar

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import TransactionRollbackError, connection
from psycopg2.pool import PoolError

from config.database_errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DeadlineExceeded,
    DiskFull,
    OtherSearchPath,
    PoolBusy,
    RightsMissing,
    SerializationFailure,
)
from config.fair_queue import FairQueue, PoolStats
from utils import tracing
from utils.postgres import Cursor as Cursor
from utils.postgres import (
    GuardedPool,
    Identify,
    PooledConnection,
    SessionChanged,
    abort_connection,
    begin_snapshot,
    begin_statement,
    begin_writing,
    close_quietly,
    is_direct,
)
from utils.postgres_urls import url_fault
from utils.session_options import (
    QUESTION_OPTIONS,
    WRITER_OPTIONS,
    connect_arguments,
    search_path,
)

R = TypeVar("R")

# A path whose schema does not exist yet shows no schema, and may be right nevertheless.
_OTHER_PATH = """
select format('behind the pooler, sessions of %%I have the search_path %%s: run `alter role %%I in '
              'database %%I set search_path = %%s` and let the pooler connect again, or set the '
              'URL to that of PostgreSQL itself',
              session_user, current_setting('search_path'), session_user, current_database(),
              %(path)s)
where  current_schemas(false)::text[] <> parse_ident(%(path)s)
and    current_setting('search_path') <> all(array[%(path)s, trim('"' from %(path)s)])
"""


class Database:
    """A pool of connections, one thread per connection, and the queue of waiting requests."""

    def __init__(
        self,
        url: str,
        *,
        size: int,
        waiters: int,
        acquire_timeout_s: float,
        statement_timeout_s: float = 60,
        lifetime_s: float = 1800,
        name: str,
        options: Mapping[str, str] = QUESTION_OPTIONS,
        identify: Identify | None = None,
    ) -> None:
        # A safety net: each transaction sets a shorter `statement_timeout`.
        arguments = connect_arguments(url, options, name, statement_timeout_s)
        self.stats = PoolStats(size)
        self.pool = GuardedPool(
            size, url, stats=self.stats, lifetime_s=lifetime_s, identify=identify, **arguments
        )
        self._queue = FairQueue(size, waiters, acquire_timeout_s, self.stats)
        self._threads = ThreadPoolExecutor(size, name)

    async def maintain_forever(self, every_s: float = 0.5) -> NoReturn:
        """Keep the pool full, and replace old connections, so that no request has to connect."""
        while True:
            with suppress(DatabaseError, PoolError, psycopg2.Error):
                if not self._queue.is_exhausted:
                    await asyncio.shield(await self.submit(self.pool.refresh, math.inf))
            await asyncio.sleep(every_s)

    async def submit(
        self, work: Callable[[], R], deadline: float, caller: str = ""
    ) -> "asyncio.Future[R]":
        """Start blocking work in a thread once a connection is free. Raises: PoolBusy.

        Waiting takes no thread. Connections are shared fairly between callers.
        """
        with tracing.span("pool wait"):
            await self._queue.acquire(deadline, caller)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, copy_context().run, work)
        # The connection is in use until the thread is done, also if the caller is cancelled.
        future.add_done_callback(partial(self._release, caller))
        return future

    def close(self) -> None:
        """Abort running work, then close all connections."""
        self.pool.abort_all()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if not self.pool.closed:
            self.pool.closeall()

    def _release(self, caller: str, future: "asyncio.Future[Any]") -> None:
        self._queue.release(caller)
        if not future.cancelled():
            # Marks the exception as retrieved: the caller may have been cancelled, and asyncio
            # would log it.
            future.exception()


class Connection:
    """The connection of a request, which is taken from the pool for each transaction."""

    def __init__(self, database: Database, deadline: float, caller: str = "") -> None:
        self._database = database
        self._deadline = deadline
        self._caller = caller
        self._lock = threading.Lock()
        self._pooled: connection | None = None
        self._is_cancelled = False
        self.identity: str | None = None
        """The identity of the database that the last statement was sent to."""

    async def run(self, work: Callable[[], R]) -> R:
        """Run blocking work that uses this connection in a thread, and return its result.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        future = await self._database.submit(work, self._deadline, self._caller)
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                # Shielded, since a thread cannot be cancelled: `_cancel` aborts its statement.
                return await asyncio.shield(future)
        except TimeoutError:
            self._cancel()
            self._database.stats.deadlines += 1
            raise DeadlineExceeded from None
        except asyncio.CancelledError:
            self._cancel()
            raise

    def check(self) -> None:
        """Raise DeadlineExceeded if the time of the request is over, or it was cancelled."""
        if self._is_cancelled:
            raise DeadlineExceeded
        self._remaining_ms()

    def snapshot(self) -> AbstractContextManager[Cursor]:
        """A read-only transaction with one snapshot for all its statements.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        return self._transaction(begin_snapshot)

    @contextmanager
    def statement(self) -> Iterator[Cursor]:
        """A cursor for a single statement, without round trips for `begin` and `commit`.

        Its `now` is not set: the statement itself has to return the time. On a replica, and until
        the connection is known not to lead to one, this is a `snapshot`.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        with self._borrow() as conn, self._translate_errors(conn):
            if conn.is_to_replica is not False or not conn.sessions.is_direct:
                with self._in_transaction(conn, begin_snapshot) as cur:
                    yield cur
                return
            with conn.cursor(None, Cursor) as cur:
                begin_statement(conn, cur, self._remaining_ms())
                yield cur

    def transaction(self) -> AbstractContextManager[Cursor]:
        """A transaction that writes: committed at the end of the block, rolled back on an error.

        Its `now` is not set.
        """
        return self._transaction(begin_writing)

    @contextmanager
    def _transaction(self, begin: Callable[..., None]) -> Iterator[Cursor]:
        with (
            self._borrow() as conn,
            self._translate_errors(conn),
            self._in_transaction(conn, begin) as cur,
        ):
            yield cur

    @contextmanager
    def _in_transaction(
        self, conn: PooledConnection, begin: Callable[..., None]
    ) -> Iterator[Cursor]:
        with conn.cursor(None, Cursor) as cur:
            begin(conn, cur, self._remaining_ms())
            try:
                yield cur
            except Exception:
                cur.execute("rollback")
                raise
            cur.execute("commit")
            # `commit` of a failed transaction raises no error, but is a rollback.
            if cur.statusmessage != "COMMIT":
                raise SerializationFailure

    @contextmanager
    def _borrow(self) -> Iterator[PooledConnection]:
        conn = self._checkout()
        try:
            self._set_pooled(conn)
            self.identity = conn.identity
            yield conn
        finally:
            self._set_pooled(None)
            self._database.pool.putconn(conn)

    def _checkout(self) -> PooledConnection:
        try:
            return self._database.pool.getconn()
        except PoolError as exc:
            raise PoolBusy from exc
        except psycopg2.Error as exc:
            raise DatabaseUnavailable from exc

    @contextmanager
    def _translate_errors(self, conn: connection) -> Iterator[None]:
        try:
            yield
        except SessionChanged as exc:
            raise SerializationFailure from exc
        except errors.QueryCanceled as exc:
            raise DeadlineExceeded from exc
        except errors.UndefinedTable as exc:  # the command `migrate` has not been run yet
            raise DatabaseUnavailable from exc
        except errors.InsufficientPrivilege as exc:
            raise RightsMissing from exc
        except TransactionRollbackError as exc:
            raise SerializationFailure from exc
        except errors.DiskFull as exc:
            raise DiskFull from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            if self._is_cancelled:
                raise DeadlineExceeded from exc
            raise (ConnectionLost if conn.closed else DatabaseUnavailable) from exc

    def _remaining_ms(self) -> int:
        """Milliseconds until the deadline, at least 1. Raises: DeadlineExceeded."""
        # `statement_timeout` 0 would mean no limit.
        remaining = int((self._deadline - time.monotonic()) * 1000)
        if remaining <= 0:
            raise DeadlineExceeded
        return remaining

    def _set_pooled(self, conn: connection | None) -> None:
        with self._lock:
            self._pooled = conn
            if conn is not None and self._is_cancelled:
                raise DeadlineExceeded

    def _cancel(self) -> None:
        """Abort the running statement."""
        # Under the lock: outside of it the connection may be back in the pool, and used by another
        # request.
        with self._lock:
            self._is_cancelled = True
            if self._pooled is not None:
                abort_connection(self._pooled)


class CommandConnection(connection):
    """A connection of a command, without a pool, that knows how to connect again."""

    url: str
    name: str

    def reopen(self) -> "CommandConnection":
        """A new connection with the same URL and name. Raises: DatabaseUnavailable."""
        return connect(self.url, self.name)


def connect(url: str, name: str) -> CommandConnection:
    """A connection for a command; `name` is its `application_name`.

    Raises: DatabaseUnavailable, OtherSearchPath.
    """
    arguments = connect_arguments(url, WRITER_OPTIONS, name)
    try:
        conn: CommandConnection = psycopg2.connect(
            url, connection_factory=CommandConnection, **arguments
        )
        if path := search_path(url):
            _check_path(conn, path)
    except psycopg2.Error as exc:
        fault = url_fault(url)
        reason = fault or str(exc).strip()
        cause = None if fault else exc  # if the URL is malformed, the error may show its password
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}") from cause
    conn.url, conn.name = url, name
    return conn


def _check_path(conn: connection, wanted: str) -> None:
    """Raises: OtherSearchPath, where a pooler has started the session in another way;
    psycopg2.Error."""
    conn.autocommit = True
    if not is_direct(conn):
        with conn.cursor() as cur:
            cur.execute(_OTHER_PATH, {"path": wanted})
            fault = cur.fetchone()
        if fault:
            conn.close()
            raise OtherSearchPath(*fault)
    conn.autocommit = False


@contextmanager
def connect_with_timeout(url: str, name: str, timeout_s: float) -> Iterator[connection]:
    """A connection that is aborted after `timeout_s`, whether it waits for a lock or the network.

    Raises: DatabaseUnavailable.
    """
    conn = connect(url, name)
    timer = threading.Timer(timeout_s, abort_connection, (conn,))
    timer.daemon = True
    timer.start()
    try:
        yield conn
    finally:
        timer.cancel()
        close_quietly(conn)


def get_connection(database: Database, deadline: float, caller: str = "") -> Connection:
    """The connection of a request with this deadline, a monotonic time.

    `caller` owns the request; "" is the service itself, or any client if no key is required.
    """
    return Connection(database, deadline, caller)
