"""PostgreSQL connections: a thread-safe pool, prepared cursors, and snapshots, on psycopg2."""

import io
import logging
import math
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Protocol, cast

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection, cursor
from psycopg2.extensions import libpq_version as _libpq_version
from psycopg2.pool import PoolError, SimpleConnectionPool
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal, Placeholder

from utils import tracing
from utils.circuit_breaker import CircuitBreaker
from utils.prepared_statements import PreparedStatement
from utils.session_options import (
    BEGIN,
    BEGIN_ON_REPLICA,
    search_path,
)

log = logging.getLogger("analytics.database")

# A generic plan is made for the size that tables have at the time, and those of a new database grow
# fast: a plan for an empty table scans all of it.
_PLAN_LIFETIME_S = 10.0

_PLAN_ERRORS = (
    errors.InvalidSqlStatementName,
    errors.DuplicatePreparedStatement,
    errors.FeatureNotSupported,  # a migration has changed the columns of the result
)


def is_alive(conn: connection) -> bool:
    """Return whether an idle connection can still be used, without a round trip."""
    if conn.closed:
        return False
    # An idle session has no unread bytes: a readable socket means that the server has closed the
    # connection or sent the reason why it will.
    poll = select.poll()  # select() cannot watch a descriptor from 1024 on
    poll.register(conn.fileno(), select.POLLIN)
    return not poll.poll(0)


def is_direct(conn: connection) -> bool:
    """Whether its session is PostgreSQL's own, which was started as the connection says: a pooler
    shows a process of its own invention. Raises: psycopg2.Error."""
    with conn.cursor() as cur:
        cur.execute("select pg_backend_pid()")
        (pid,) = cur.fetchone() or ()
    return bool(pid == conn.info.backend_pid)


def abort_connection(conn: connection) -> None:
    """Shut down the socket of a connection, from any thread and without waiting for its query."""
    # `conn.cancel()` would hold the interpreter's lock, and `conn.close()` waits for the query.
    # The descriptor is duplicated so that libpq keeps its own.
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(conn.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def close_quietly(conn: connection) -> None:
    with suppress(psycopg2.Error):
        conn.close()


Identify = Callable[[connection], str | None]
"""Reads the identity of the database of a new connection."""
# Answers of a connection whose database could not be identified are not cached.
_UNIDENTIFIED_LIFETIME_S = 10.0


class ConnectionStats(Protocol):
    """The counters of a pool, since the process started."""

    opened: int
    discarded: int


class ServerUnreachable(psycopg2.OperationalError):
    """PostgreSQL could not be reached a moment ago; the next attempt follows within 2 seconds."""


class SessionChanged(psycopg2.OperationalError):
    """A connection pooler has put another session behind the connection than before."""


@dataclass(slots=True)
class PoolSessions:
    """Properties that all sessions of a pool share."""

    # A pooler such as PgBouncer in transaction mode uses another session for each transaction, even
    # one of another server: it does not know the statements that were prepared before.
    is_direct: bool = True
    """Whether each connection keeps its session; false once a connection pooler was noticed."""


class PooledConnection(connection):
    """A pool's connection, with the time of its retirement and the identity of its database."""

    retire_at: float
    """Seconds on the monotonic clock."""
    generation: int
    """The generation of the pool when the connection was opened."""
    identity: str | None = None
    """The identity of the database, read when the connection was opened; None if it has none."""
    is_to_replica: bool | None = None
    """Whether the last transaction was on a replica; None before the first transaction."""
    path = ""
    """The search path that each transaction has to set, as SQL; empty if the session has it."""
    sessions: PoolSessions
    prepared_at: dict[str, float]
    """When the session has prepared each statement, by its name; on the monotonic clock."""

    def mark_session_changed(self) -> SessionChanged:
        """Stop preparing statements in this pool, and return the error to raise."""
        if self.sessions.is_direct:
            log.warning(
                "a connection pooler changes the session for each transaction: "
                "statements are not prepared"
            )
        self.sessions.is_direct = False
        return SessionChanged()


class Cursor(cursor):
    """A cursor for prepared statements, and for statements that are a transaction by themselves.

    Each statement is a span of the trace, with its name.
    """

    now: datetime
    """The database's clock when the snapshot was taken: it holds all that was committed by then.

    On a replica, the time of the last replayed commit, which stands still while none arrives.
    """
    prefix: Composed | None = None
    """SQL to send before a statement that is a transaction by itself, in the same message."""
    begin: Composed | None = None
    """SQL that begins a transaction, to send in the message of its first statement."""

    def execute(self, query: Any, vars: Any = None) -> None:
        text = query.as_string(self) if isinstance(query, Composable) else query
        message = self._message(text)
        with tracing.statement_span(text):
            super().execute(message, vars)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        text = sql.as_string(self) if isinstance(sql, Composable) else sql
        message = self._message(text)
        with tracing.statement_span(text):
            super().copy_expert(message, file, size)

    def _message(self, text: str) -> str | Composed:
        before, self.begin = self.begin or self.prefix, None
        return before + SQL(text) if before else text

    def execute_prepared(self, statement: PreparedStatement, params: Mapping[str, Any]) -> None:
        """Execute a prepared statement, preparing it first if needed. Raises: SessionChanged."""
        conn = self.connection
        if not isinstance(conn, PooledConnection) or not conn.sessions.is_direct:
            self.execute(statement.plain_sql, params)
            return
        try:
            prepared_at = conn.prepared_at.get(statement.name, -math.inf)
            if time.monotonic() >= prepared_at + _PLAN_LIFETIME_S:
                is_prepared = statement.name in conn.prepared_at
                super().execute(prepare_command(statement, is_prepared=is_prepared))
                conn.prepared_at[statement.name] = time.monotonic()
            self.execute(execute_command(statement), params)
        except _PLAN_ERRORS as exc:
            raise conn.mark_session_changed() from exc

    def copy_out(self, statement: str, params: Mapping[str, Any]) -> bytes:
        """Return the output of a `COPY ... TO STDOUT`."""
        buffer = io.BytesIO()
        self.copy_expert(self.mogrify(statement, params).decode(), buffer)
        return buffer.getvalue()

    def set_snapshot_time(self, now: datetime, *, is_replica: bool) -> None:
        """Set `now` to the time of a statement that is a transaction by itself.

        Raises: SessionChanged on a replica, whose data is older than its clock.
        """
        if not self.prefix:
            return
        # Only connections to a primary send such statements: a pooler has changed the server.
        if is_replica and isinstance(self.connection, PooledConnection):
            raise self.connection.mark_session_changed()
        self.now = now


@cache
def in_path(statement: str, path: str) -> Composed:
    """Return a statement that sets this search path at its `{path}`, unless the path is empty."""
    set_path = SQL("set local search_path = {}; ").format(SQL(path)) if path else SQL("")
    return SQL(statement).format(path=set_path)


@cache
def prepare_command(statement: PreparedStatement, *, is_prepared: bool = False) -> Composed:
    """Return `prepare`, after a `deallocate` if the session has prepared the statement before."""
    name = Identifier(statement.name)
    deallocate = SQL("deallocate {}; ").format(name) if is_prepared else SQL("")
    return SQL("{}prepare {} as {}").format(deallocate, name, SQL(statement.numbered_sql))


@cache
def execute_command(statement: PreparedStatement) -> Composed:
    """Return `execute` with the parameters of a prepared statement."""
    arguments = SQL(", ").join(map(Placeholder, statement.parameters))
    label, name = SQL(statement.label), Identifier(statement.name)
    return SQL("/* {} */ execute {} ({})").format(label, name, arguments)


def begin_statement(conn: PooledConnection, cur: Cursor, timeout_ms: int) -> None:
    """Let a statement be a transaction by itself, with the settings of one."""
    # Several statements in one simple-query message are one implicit transaction, so `set local`
    # applies to the statement.
    cur.prefix = _settings(conn.path, timeout_ms)


def begin_snapshot(conn: PooledConnection, cur: Cursor, timeout_ms: int) -> None:
    """Begin a read-only transaction, and set `now` to the time up to which it sees every commit."""
    # Whether the server is a replica is known from the answer only. A replica needs a statement
    # before the snapshot, so the first transaction of a connection to one begins twice.
    was_replica = bool(conn.is_to_replica)
    begin = BEGIN_ON_REPLICA if was_replica else BEGIN
    cur.execute(in_path(begin, conn.path), (timeout_ms,))
    cur.now, conn.is_to_replica = cur.fetchone() or ()
    if conn.is_to_replica and not was_replica:
        cur.execute("rollback")
        begin_snapshot(conn, cur, timeout_ms)


def begin_writing(conn: PooledConnection, cur: Cursor, timeout_ms: int) -> None:
    """Begin a read-write transaction with the next statement, which saves a round trip."""
    cur.begin = SQL("begin; ") + _settings(conn.path, timeout_ms)


def _settings(path: str, timeout_ms: int) -> Composed:
    set_timeout = in_path("{path}set local statement_timeout = ", path)
    return set_timeout + Literal(timeout_ms) + SQL("; ")


def _identity(conn: PooledConnection, identify: Identify) -> str | None:
    """Raises: psycopg2.Error."""
    if not conn.path:
        return identify(conn)
    with conn.cursor() as cur:
        cur.execute(in_path("begin; {path}", conn.path))
        try:
            return identify(conn)
        finally:
            cur.execute("rollback")


class GuardedPool(SimpleConnectionPool):
    """A psycopg2 pool that is safe for threads and survives restarts of the server.

    The base class exceeds `maxconn` under threads, closes connections that it should keep, lends
    dead ones, and loses the slot of one that died in a transaction.
    """

    _pool: list[PooledConnection]
    _used: dict[Any, PooledConnection]
    _rused: dict[int, Any]
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _getkey: Callable[[], Any]

    def __init__(
        self,
        maxconn: int,
        dsn: str,
        *,
        stats: ConnectionStats,
        lifetime_s: float,
        identify: Identify | None = None,
        **arguments: Any,
    ) -> None:
        """`identify` reads the identity of the database from a new connection."""
        self._lock = threading.Lock()
        self._generation = 0
        self._identify = identify
        self._connecting = 0
        self._new: set[PooledConnection] = set()
        self._is_aborted = False
        self._stats = stats
        self._lifetime_s = lifetime_s
        self._search_path = search_path(dsn)
        self._sessions = PoolSessions()
        self._breaker = CircuitBreaker(max_failures=1, first_pause_s=0.2, max_pause_s=2)
        # No connection is opened here, so that the service can start before PostgreSQL.
        super().__init__(0, maxconn, dsn, connection_factory=PooledConnection, **arguments)

    def getconn(self, key: Any = None) -> PooledConnection:
        """Return a live connection. Raises: PoolError if all are in use, psycopg2.Error."""
        while (conn := self._claim()) is not None:
            if is_alive(conn):
                return conn
            self.putconn(conn, close=True)
        return self._open()

    def putconn(self, conn: connection, key: Any = None, close: bool = False) -> None:
        """Return a connection to the pool, which closes it if it is old or in a transaction."""
        assert isinstance(conn, PooledConnection)
        idle = conn.closed == 0 and conn.info.transaction_status == TRANSACTION_STATUS_IDLE
        is_reusable = idle and not close and not self.closed and time.monotonic() < conn.retire_at
        if not is_reusable:
            close_quietly(conn)
        with self._lock:
            # Checked under the lock: `retire` may have run since the check above.
            if is_reusable and conn.generation != self._generation:
                is_reusable = False
                close_quietly(conn)
            self._used.pop(self._rused.pop(id(conn), None), None)
            self._stats.discarded += not is_reusable
            if is_reusable:
                self._pool.append(conn)

    def refresh(self) -> None:
        """Replace idle connections that are dead or old, and open those that are missing.

        Raises: PoolError if the pool is closed, psycopg2.Error.
        """
        with self._lock:
            idle = len(self._pool)
        for _ in range(idle):
            self._refresh_one()
        while conn := self._claim_missing():
            self.putconn(conn)

    def retire(self) -> None:
        """Close the idle connections now, and those in use when they are returned."""
        with self._lock:
            self._generation += 1
            idle, self._pool = self._pool, []
            self._stats.discarded += len(idle)
        for conn in idle:
            close_quietly(conn)

    def abort_all(self) -> None:
        """Abort the connections in use, so that no thread outlives the service."""
        with self._lock:
            self._is_aborted = True
            for conn in (*self._used.values(), *self._new):
                abort_connection(conn)

    def _refresh_one(self) -> None:
        with self._lock:
            # The one that has been idle longest; `_claim` takes the most recently used one.
            conn = self._lend(self._pool.pop(0)) if self._pool else None
        if conn is not None:
            self.putconn(conn, close=not is_alive(conn))

    def _claim_missing(self) -> PooledConnection | None:
        with self._lock:
            # New connections would be aborted as well, and so be missing again and again.
            is_over = self.closed or self._is_aborted
            if is_over or len(self._pool) + self._count_in_use() >= self.maxconn:
                return None
            self._connecting += 1
        return self._open()

    def _claim(self) -> PooledConnection | None:
        """Return an idle connection, or None if the caller is to open one (counted already)."""
        with self._lock:
            if self.closed or self._is_aborted:
                raise PoolError("connection pool is closed")
            if self._pool:
                return self._lend(self._pool.pop())
            if self._count_in_use() >= self.maxconn:
                raise PoolError("connection pool exhausted")
            self._connecting += 1
            return None

    def _count_in_use(self) -> int:
        return len(self._used) + self._connecting

    def _open(self) -> PooledConnection:
        """Open a connection for a caller that has claimed one."""
        # Connect outside the lock: while PostgreSQL is down each attempt may take seconds.
        conn: PooledConnection | None = None
        try:
            conn = self._connect()
            return conn
        finally:
            with self._lock:
                self._connecting -= 1
                if conn is not None:
                    self._stats.opened += 1
                    self._lend(conn)

    def _connect(self) -> PooledConnection:
        if not self._breaker.allows():
            raise ServerUnreachable(str(ServerUnreachable.__doc__))
        generation = self._generation  # before connecting: `retire` may run meanwhile
        try:
            conn = cast(PooledConnection, psycopg2.connect(*self._args, **self._kwargs))
            conn.autocommit = True  # transactions are begun by the text that they consist of
            with self._abortable(conn):
                if self._search_path and not is_direct(conn):
                    conn.path = self._search_path
        except psycopg2.OperationalError:
            self._breaker.record_failure()
            raise
        self._breaker.record_success()
        conn.sessions, conn.prepared_at = self._sessions, {}
        # Jitter: connections that were opened together are not replaced together.
        conn.retire_at = time.monotonic() + self._lifetime_s * random.uniform(0.8, 1)
        conn.generation = generation
        if self._identify:
            try:
                with self._abortable(conn):
                    conn.identity = _identity(conn, self._identify)
            except psycopg2.Error:  # usable, but replaced soon
                conn.retire_at = min(conn.retire_at, time.monotonic() + _UNIDENTIFIED_LIFETIME_S)
        return conn

    @contextmanager
    def _abortable(self, conn: PooledConnection) -> Iterator[None]:
        """Let `abort_all` end what is read with a connection before it is lent."""
        with self._lock:
            self._new.add(conn)
            if self._is_aborted:
                abort_connection(conn)
        try:
            yield
        finally:
            with self._lock:
                self._new.discard(conn)

    def _lend(self, conn: PooledConnection) -> PooledConnection:
        # The bookkeeping of the base class, whose `closeall` reads it.
        key = self._getkey()
        self._used[key] = conn
        self._rused[id(conn)] = key
        return conn


def libpq_version() -> str:
    """Return the version of libpq in this process, such as 18.1."""
    major, minor = divmod(_libpq_version(), 10_000)
    return f"{major}.{minor}"
