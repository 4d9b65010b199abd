"""The way to PostgreSQL: a guarded pool, and what a request holds of it."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, NoReturn, TypeVar

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import TransactionRollbackError, connection
from psycopg2.pool import PoolError

from config.failures import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DeadlineExceeded,
    DiskFull,
    PoolBusy,
    RightsMissing,
    Undone,
)
from config.places import Places
from config.stats import Stats
from utils.postgres import (
    GuardedPool,
    KeepingCursor,
    PooledConnection,
    StrangeSession,
    begin_snapshot,
    begin_writing,
    close_quietly,
    hang_up,
)
from utils.postgres_urls import url_fault
from utils.sessions import QUESTION_OPTIONS, WRITER_OPTIONS, connect_arguments, statement_name
from utils.tracing import span

R = TypeVar("R")
Identify = Callable[[connection], str | None]
"""Reads which database a new connection leads to."""


class Cursor(KeepingCursor):
    """A cursor inside a snapshot; each statement is a span of its own name in the trace."""

    def execute(self, query: Any, vars: Any = None) -> None:
        with span(statement_name(query)):
            super().execute(query, vars)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        with span(statement_name(sql)):
            super().copy_expert(sql, file, size)


class Database:
    """A pool, as many threads as it has connections, and the queue in front of both."""

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
        # Each transaction has a shorter limit; this one is for what forgets to set it.
        arguments = connect_arguments(options, name, statement_timeout_s)
        self.stats = Stats(size)
        self.pool = GuardedPool(
            size, url, stats=self.stats, lifetime_s=lifetime_s, identify=identify, **arguments
        )
        self._places = Places(size, waiters, acquire_timeout_s, self.stats)
        self._threads = ThreadPoolExecutor(size, name)

    async def keep(self, every_s: float = 0.5) -> NoReturn:
        """Keep the pool full and fresh, so that no request has to connect."""
        while True:
            with suppress(DatabaseError, PoolError, psycopg2.Error):
                if not self._places.are_taken:
                    await asyncio.shield(await self.submit(self.pool.renew, math.inf))
            await asyncio.sleep(every_s)

    async def submit(
        self, work: Callable[[], R], deadline: float, caller: str = ""
    ) -> "asyncio.Future[R]":
        """Start blocking work once a connection is free; until then no thread is taken.

        Connections are shared fairly by the callers who wait. Raises: PoolBusy.
        """
        await self._places.take(deadline, caller)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, copy_context().run, work)
        # The place is free when the thread is done, not when its caller gives up.
        future.add_done_callback(partial(self._release, caller))
        return future

    def close(self) -> None:
        """End running work, then close all connections."""
        self.pool.hang_up()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if not self.pool.closed:
            self.pool.closeall()

    def _release(self, caller: str, future: "asyncio.Future[Any]") -> None:
        self._places.give_back(caller)
        if not future.cancelled():
            future.exception()  # it is told to whoever still waits; nobody is no error


class Connection:
    """What a request holds of the pool: nothing until its first statement, then one connection."""

    def __init__(self, database: Database, deadline: float, caller: str = "") -> None:
        self._database = database
        self._deadline = deadline
        self._caller = caller
        self._lock = threading.Lock()
        self._held: connection | None = None
        self._given_up = False
        self.identity: str | None = None
        """Of the database that the last statement was sent to."""

    async def run(self, work: Callable[[], R]) -> R:
        """Do blocking work that uses this connection.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        future = await self._database.submit(work, self._deadline, self._caller)
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                return await asyncio.shield(future)
        except TimeoutError:
            self._give_up()
            self._database.stats.deadlines += 1
            raise DeadlineExceeded from None
        except asyncio.CancelledError:
            self._give_up()
            raise

    def snapshot(self) -> AbstractContextManager[Cursor]:
        """One read-only transaction whose statements all see the same events.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        return self._transaction(begin_snapshot)

    @contextmanager
    def statement(self) -> Iterator[Cursor]:
        """The same for a single statement, without the way there and back to begin and to end it.

        `as_of` is missing: the statement has to `tell` it. On a replica, and until it is known that
        this is none, it is a snapshot with all that belongs to it.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        with self._borrowed() as conn, self._translated(conn):
            if conn.is_to_replica is not False or not conn.session.all.are_ours:
                with self._begun(conn, begin_snapshot) as cur:
                    yield cur
                return
            with conn.cursor(None, Cursor) as cur:
                # Several statements in one message are one transaction.
                cur.opening = f"set local statement_timeout = {self._left_ms()}; "
                yield cur

    def transaction(self) -> AbstractContextManager[Cursor]:
        """The same for what writes; it is committed at the end of the block, or undone."""
        return self._transaction(begin_writing)

    @contextmanager
    def _transaction(self, begin: Callable[..., datetime]) -> Iterator[Cursor]:
        with self._borrowed() as conn, self._translated(conn), self._begun(conn, begin) as cur:
            yield cur

    @contextmanager
    def _begun(self, conn: PooledConnection, begin: Callable[..., datetime]) -> Iterator[Cursor]:
        with conn.cursor(None, Cursor) as cur:
            cur.as_of = begin(conn, cur, self._left_ms())
            try:
                yield cur
            except Exception:
                cur.execute("rollback")
                raise
            cur.execute("commit")
            if cur.statusmessage != "COMMIT":  # of a transaction that failed it is no error
                raise Undone

    @contextmanager
    def _borrowed(self) -> Iterator[PooledConnection]:
        conn = self._connected()
        try:
            self._hold(conn)
            self.identity = conn.identity
            yield conn
        finally:
            self._hold(None)
            self._database.pool.putconn(conn)

    def _connected(self) -> PooledConnection:
        try:
            return self._database.pool.getconn()
        except PoolError as exc:
            raise PoolBusy from exc
        except psycopg2.Error as exc:
            raise DatabaseUnavailable from exc

    @contextmanager
    def _translated(self, conn: connection) -> Iterator[None]:
        try:
            yield
        except StrangeSession as exc:
            raise Undone from exc
        except errors.QueryCanceled as exc:
            raise DeadlineExceeded from exc
        except errors.UndefinedTable as exc:  # nobody has called migrate yet
            raise DatabaseUnavailable from exc
        except errors.InsufficientPrivilege as exc:
            raise RightsMissing from exc
        except TransactionRollbackError as exc:
            raise Undone from exc
        except errors.DiskFull as exc:
            raise DiskFull from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            if self._given_up:
                raise DeadlineExceeded from exc
            raise (ConnectionLost if conn.closed else DatabaseUnavailable) from exc

    def _left_ms(self) -> int:
        """What the statements may take; 0 would mean no limit at all."""
        left = int((self._deadline - time.monotonic()) * 1000)
        if left <= 0:
            raise DeadlineExceeded
        return left

    def _hold(self, conn: connection | None) -> None:
        with self._lock:
            self._held = conn
            if conn is not None and self._given_up:
                raise DeadlineExceeded

    def _give_up(self) -> None:
        """Nobody waits any more. Under the lock, since the connection may be another's after it."""
        with self._lock:
            self._given_up = True
            if self._held is not None:
                hang_up(self._held)


class CommandConnection(connection):
    """A connection outside of the pool, which can be opened again."""

    url: str
    name: str

    def reopened(self) -> "CommandConnection":
        """Another one, to the same database. Raises: DatabaseUnavailable."""
        return connect(self.url, self.name)


def connect(url: str, name: str) -> CommandConnection:
    """A connection of its own for a command that writes. Raises: DatabaseUnavailable."""
    arguments = connect_arguments(WRITER_OPTIONS, name)
    try:
        conn: CommandConnection = psycopg2.connect(
            url, connection_factory=CommandConnection, **arguments
        )
    except psycopg2.Error as exc:
        fault = url_fault(url)
        reason = fault or str(exc).strip()
        cause = None if fault else exc  # a traceback would show what it says
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}") from cause
    conn.url, conn.name = url, name
    return conn


@contextmanager
def connected_for(url: str, name: str, seconds: float) -> Iterator[connection]:
    """The same for work that must be over in time, whatever it waits for: a lock, a dead network.

    Raises: DatabaseUnavailable.
    """
    conn = connect(url, name)
    watch = threading.Timer(seconds, hang_up, (conn,))
    watch.daemon = True
    watch.start()
    try:
        yield conn
    finally:
        watch.cancel()
        close_quietly(conn)


def get_connection(database: Database, deadline: float, caller: str = "") -> Connection:
    """The connection of one request, which must be answered by `deadline`, a monotonic time.

    `caller` is whose request it is; "" is the service itself, or anybody where no key is needed.
    """
    return Connection(database, deadline, caller)
