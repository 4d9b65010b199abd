"""What psycopg2 lacks: a pool for threads, and ways to look at a connection and to hang up."""

import logging
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol, cast

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection, cursor
from psycopg2.extensions import libpq_version as _libpq_version
from psycopg2.pool import PoolError, SimpleConnectionPool

from utils.circuit_breaker import CircuitBreaker
from utils.prepared_statements import PoolSessions, PreparedStatement, Session
from utils.session_options import BEGIN, BEGIN_ON_REPLICA, BEGIN_WRITING

log = logging.getLogger("analytics.database")

_PLAN_ERRORS = (
    errors.InvalidSqlStatementName,
    errors.DuplicatePreparedStatement,
    errors.FeatureNotSupported,  # a migration has changed what it returns
)


def is_alive(conn: connection) -> bool:
    """Whether an idle connection can still be used, told without a round trip.

    An idle session never has unread bytes: readable means the server hung up or said why.
    """
    if conn.closed:
        return False
    poll = select.poll()  # select() cannot watch a descriptor from 1024 on
    poll.register(conn.fileno(), select.POLLIN)
    return not poll.poll(0)


def abort_connection(conn: connection) -> None:
    """End whatever the connection does, from any thread and without waiting.

    `conn.cancel()` would hold the interpreter's lock, and `conn.close()` waits for the query.
    """
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(conn.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def close_quietly(conn: connection) -> None:
    with suppress(psycopg2.Error):
        conn.close()


_UNIDENTIFIED_LIFETIME_S = 10.0


class ConnectionStats(Protocol):
    """What a pool counts."""

    opened: int
    discarded: int


class ServerUnreachable(psycopg2.OperationalError):
    """PostgreSQL could not be reached a moment ago, and it is not time to try again."""


class SessionChanged(psycopg2.OperationalError):
    """Behind the connection is another session than before: a pooler lends them."""


class PooledConnection(connection):
    """A connection that knows until when it is used, and what it is connected to."""

    retire_at: float
    generation: int
    """Of its pool when it was opened."""
    identity: str | None = None
    """Of the database, as it was read when the connection was opened; None where it has none."""
    is_to_replica: bool | None = None
    """As its last transaction was told; None before the first."""
    session: Session

    def mark_session_changed(self) -> SessionChanged:
        """From now on no session of the pool is told anything that it should know later."""
        if self.session.pool_sessions.is_direct:
            log.warning(
                "sessions do not keep what they are told, as behind a pooler: plans are not kept"
            )
        self.session.pool_sessions.is_direct = False
        return SessionChanged()


class PreparingCursor(cursor):
    """A cursor for statements whose plans the session keeps, or that are transactions alone."""

    as_of: datetime
    """The database's clock when the snapshot was taken: all that was committed by then is in it.

    On a replica it is that of the other server, and stands still while nothing comes from there.
    """
    prefix = ""
    """What goes before a statement that is a transaction by itself."""

    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(self.prefix + query if self.prefix else query, vars)

    def execute_prepared(self, statement: PreparedStatement, params: Mapping[str, Any]) -> None:
        """The same, with the plan that the session keeps. Raises: StrangeSession."""
        conn = self.connection
        if not isinstance(conn, PooledConnection) or not conn.session.pool_sessions.is_direct:
            self.execute(statement.plain_sql, params)
            return
        try:
            if prepare_sql := conn.session.pending_prepare(statement):
                super().execute(prepare_sql)
                conn.session.mark_prepared(statement)
            self.execute(statement.execute_sql, params)
        except _PLAN_ERRORS as exc:
            raise conn.mark_session_changed() from exc

    def set_snapshot_time(self, now: datetime, *, is_replica: bool) -> None:
        """The moment of a statement, which counts where it is a transaction by itself.

        Raises: StrangeSession, on a replica, whose answers are of another moment.
        """
        if not self.prefix:
            return
        if is_replica and isinstance(self.connection, PooledConnection):
            raise self.connection.mark_session_changed()
        self.as_of = now


def begin_snapshot(conn: PooledConnection, cur: cursor, timeout_ms: int) -> datetime:
    """Begin a read-only transaction, and tell up to when it sees all that was committed.

    A replica is recognized by its first answer, and asked again in its own way.
    """
    was_replica = bool(conn.is_to_replica)
    cur.execute(BEGIN_ON_REPLICA if was_replica else BEGIN, (timeout_ms,))
    as_of: datetime
    as_of, conn.is_to_replica = cur.fetchone() or ()
    if was_replica or not conn.is_to_replica:
        return as_of
    cur.execute("rollback")
    return begin_snapshot(conn, cur, timeout_ms)


def begin_writing(_: PooledConnection, cur: cursor, timeout_ms: int) -> datetime:
    """Begin a transaction that writes, and tell its moment."""
    cur.execute(BEGIN_WRITING, (timeout_ms,))
    now: datetime
    (now,) = cur.fetchone() or ()
    return now


class GuardedPool(SimpleConnectionPool):
    """psycopg2's pool, made fit for threads and for a server that comes and goes.

    The class alone hands out more than `maxconn` under threads, closes what it should keep, hands
    out dead connections and loses the place of one that died in a transaction.
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
        identify: Callable[[connection], str | None] | None = None,
        **arguments: Any,
    ) -> None:
        """`identify` reads which database a new connection leads to."""
        self._lock = threading.Lock()
        self._generation = 0
        self._identify = identify
        self._connecting = 0
        self._stats = stats
        self._lifetime_s = lifetime_s
        self._sessions = PoolSessions()
        self._breaker = CircuitBreaker(max_failures=1, first_pause_s=0.2, max_pause_s=2)
        # None is opened here: the service starts while PostgreSQL is away.
        super().__init__(0, maxconn, dsn, connection_factory=PooledConnection, **arguments)

    def getconn(self, key: Any = None) -> PooledConnection:
        """A connection that lives. Raises: PoolError when all are in use, psycopg2.Error."""
        while (conn := self._claim()) is not None:
            if is_alive(conn):
                return conn
            self.putconn(conn, close=True)
        return self._open()

    def putconn(self, conn: connection, key: Any = None, close: bool = False) -> None:
        """Take a connection back; it is kept only when it is young and in no transaction."""
        assert isinstance(conn, PooledConnection)
        idle = conn.closed == 0 and conn.info.transaction_status == TRANSACTION_STATUS_IDLE
        is_reusable = idle and not close and not self.closed and time.monotonic() < conn.retire_at
        if not is_reusable:
            close_quietly(conn)
        with self._lock:
            if is_reusable and conn.generation != self._generation:
                is_reusable = False
                close_quietly(conn)
            self._used.pop(self._rused.pop(id(conn), None), None)
            self._stats.discarded += not is_reusable
            if is_reusable:
                self._pool.append(conn)

    def refresh(self) -> None:
        """Look after those that are idle, the longest idle first, and open what is missing.

        Raises: PoolError when closed, psycopg2.Error.
        """
        with self._lock:
            idle = len(self._pool)
        for _ in range(idle):
            self._refresh_one()
        while conn := self._claim_missing():
            self.putconn(conn)

    def retire(self) -> None:
        """Close those that are idle; those that are lent are closed when they come back."""
        with self._lock:
            self._generation += 1
            idle, self._pool = self._pool, []
            self._stats.discarded += len(idle)
        for conn in idle:
            close_quietly(conn)

    def abort_all(self) -> None:
        """End whatever those that are lent do; threads must not outlive the service for it."""
        with self._lock:
            for conn in self._used.values():
                abort_connection(conn)

    def _refresh_one(self) -> None:
        with self._lock:
            conn = self._lend(self._pool.pop(0)) if self._pool else None
        if conn is not None:
            self.putconn(conn, close=not is_alive(conn))

    def _claim_missing(self) -> PooledConnection | None:
        with self._lock:
            if self.closed or len(self._pool) + self._count_in_use() >= self.maxconn:
                return None
            self._connecting += 1
        return self._open()

    def _claim(self) -> PooledConnection | None:
        """An idle connection, or None and the right to open one."""
        with self._lock:
            if self.closed:
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
        """Connect outside the lock: while PostgreSQL is away each attempt may take seconds."""
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
        generation = self._generation  # what is retired while this connects is old already
        try:
            conn = cast(PooledConnection, psycopg2.connect(*self._args, **self._kwargs))
        except psycopg2.OperationalError:
            self._breaker.record_failure()
            raise
        self._breaker.record_success()
        conn.session = Session(self._sessions)
        conn.autocommit = True  # transactions are begun by the text that they consist of
        # Not all at once: those that were opened together would be renewed together.
        conn.retire_at = time.monotonic() + self._lifetime_s * random.uniform(0.8, 1)
        conn.generation = generation
        if self._identify:
            try:
                conn.identity = self._identify(conn)
            except psycopg2.Error:  # without one its answers are not kept: for a while at most
                conn.retire_at = min(conn.retire_at, time.monotonic() + _UNIDENTIFIED_LIFETIME_S)
        return conn

    def _lend(self, conn: PooledConnection) -> PooledConnection:
        key = self._getkey()
        self._used[key] = conn
        self._rused[id(conn)] = key
        return conn


def libpq_version() -> str:
    """That of PostgreSQL's client library in this process, such as 18.1."""
    major, minor = divmod(_libpq_version(), 10_000)
    return f"{major}.{minor}"
