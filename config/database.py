"""The way to PostgreSQL: a guarded pool, and what a request holds of it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor
from psycopg2.pool import PoolError

from utils.postgres import (
    QUESTION_OPTIONS,
    WRITER_OPTIONS,
    GuardedPool,
    connect_arguments,
    hang_up,
)

R = TypeVar("R")

_BEGIN = """
begin isolation level repeatable read read only;
set local statement_timeout = %s;
select now()
"""


class DatabaseError(Exception):
    """PostgreSQL did not answer."""


class PoolBusy(DatabaseError):
    """No connection became free in time."""


class DeadlineExceeded(DatabaseError):
    """The time of the request was over before its answer was there."""


class DatabaseUnavailable(DatabaseError):
    """PostgreSQL cannot be reached, or went away."""


@dataclass(slots=True)
class Stats:
    """What a database counts; `size`, `waiting` and `in_use` are of now, the others only grow."""

    size: int
    acquired: int = 0
    acquire_seconds: float = 0.0
    busy: int = 0
    deadlines: int = 0
    waiting: int = 0
    in_use: int = 0
    opened: int = 0
    discarded: int = 0


class Cursor(cursor):
    """A cursor inside a snapshot."""

    as_of: datetime
    """The database's clock when the snapshot was taken: all that was committed by then is in it."""


class Database:
    """A pool, as many threads as it has connections, and the queue in front of both."""

    def __init__(
        self, url: str, *, size: int, waiters: int, acquire_timeout_s: float, name: str
    ) -> None:
        arguments = connect_arguments(QUESTION_OPTIONS, name)
        self.stats = Stats(size)
        self.pool = GuardedPool(size, url, stats=self.stats, **arguments)
        self._free = asyncio.Semaphore(size)
        self._threads = ThreadPoolExecutor(size, name)
        self._waiters = waiters
        self._acquire_timeout_s = acquire_timeout_s

    async def submit(self, work: Callable[[], R], deadline: float) -> "asyncio.Future[R]":
        """Start blocking work once a connection is free; until then no thread is taken.

        Raises: PoolBusy.
        """
        await self._acquire(deadline)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, copy_context().run, work)
        # The place is free when the thread is done, not when its caller gives up.
        future.add_done_callback(self._release)
        return future

    def close(self) -> None:
        """Let running work end, then close all connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        if not self.pool.closed:
            self.pool.closeall()

    async def _acquire(self, deadline: float) -> None:
        if self._free.locked() and self.stats.waiting >= self._waiters:
            self.stats.busy += 1
            raise PoolBusy
        began = time.monotonic()
        self.stats.waiting += 1
        try:
            async with asyncio.timeout(min(self._acquire_timeout_s, deadline - began)):
                await self._free.acquire()
        except TimeoutError:
            self.stats.busy += 1
            raise PoolBusy from None
        finally:
            self.stats.waiting -= 1
        self.stats.acquired += 1
        self.stats.acquire_seconds += time.monotonic() - began
        self.stats.in_use += 1

    def _release(self, future: "asyncio.Future[Any]") -> None:
        self.stats.in_use -= 1
        self._free.release()
        if not future.cancelled():
            future.exception()  # it is told to whoever still waits; nobody is no error


class Connection:
    """What a request holds of the pool: nothing until its first statement, then one connection."""

    def __init__(self, database: Database, timeout_s: float) -> None:
        self._database = database
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.Lock()
        self._held: connection | None = None
        self._given_up = False

    async def run(self, work: Callable[[], R]) -> R:
        """Do blocking work that uses this connection.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        future = await self._database.submit(work, self._deadline)
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

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        """One read-only transaction whose statements all see the same events.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        with self._translated(), self._borrowed() as conn, _cursor(conn) as cur:
            cur.execute(_BEGIN, (self._left_ms(),))
            (cur.as_of,) = cur.fetchone() or ()
            yield cur
            cur.execute("commit")

    @contextmanager
    def _borrowed(self) -> Iterator[connection]:
        conn = self._database.pool.getconn()
        try:
            self._hold(conn)
            yield conn
        finally:
            self._hold(None)
            self._database.pool.putconn(conn)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolError as exc:
            raise PoolBusy from exc
        except errors.QueryCanceled as exc:
            raise DeadlineExceeded from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            raise (DeadlineExceeded if self._given_up else DatabaseUnavailable) from exc

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


def _cursor(conn: connection) -> Cursor:
    return conn.cursor(cursor_factory=Cursor)


def connect(url: str, name: str) -> connection:
    """A connection of its own for a command that writes. Raises: DatabaseUnavailable."""
    try:
        conn: connection = psycopg2.connect(url, **connect_arguments(WRITER_OPTIONS, name))
        return conn
    except psycopg2.OperationalError as exc:
        raise DatabaseUnavailable("PostgreSQL cannot be reached: " + str(exc).strip()) from exc


def get_connection(database: Database, timeout_s: float) -> Connection:
    """The connection of one request, which must be answered within `timeout_s` seconds."""
    return Connection(database, timeout_s)
