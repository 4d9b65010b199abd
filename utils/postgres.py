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

from utils.breaker import Breaker
from utils.kept import Kept, Session, Sessions
from utils.sessions import BEGIN, BEGIN_ON_REPLICA, BEGIN_WRITING

log = logging.getLogger("analytics.database")

_NOT_KEPT = (
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


def hang_up(conn: connection) -> None:
    """End whatever the connection does, from any thread and without waiting.

    `conn.cancel()` would hold the interpreter's lock, and `conn.close()` waits for the query.
    """
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(conn.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def close_quietly(conn: connection) -> None:
    with suppress(psycopg2.Error):
        conn.close()


_UNIDENTIFIED_FOR_S = 10.0


class ConnectionStats(Protocol):
    """What a pool counts."""

    opened: int
    discarded: int


class ServerAway(psycopg2.OperationalError):
    """PostgreSQL could not be reached a moment ago, and it is not time to try again."""


class StrangeSession(psycopg2.OperationalError):
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

    def is_strange(self) -> StrangeSession:
        """From now on no session of the pool is told anything that it should know later."""
        if self.session.all.are_ours:
            log.warning(
                "sessions do not keep what they are told, as behind a pooler: plans are not kept"
            )
        self.session.all.are_ours = False
        return StrangeSession()


class KeepingCursor(cursor):
    """A cursor for statements whose plans the session keeps, or that are transactions alone."""

    as_of: datetime
    """The database's clock when the snapshot was taken: all that was committed by then is in it.

    On a replica it is that of the other server, and stands still while nothing comes from there.
    """
    opening = ""
    """What goes before a statement that is a transaction by itself."""

    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(self.opening + query if self.opening else query, vars)

    def execute_kept(self, statement: Kept, given: Mapping[str, Any]) -> None:
        """The same, with the plan that the session keeps. Raises: StrangeSession."""
        conn = self.connection
        if not isinstance(conn, PooledConnection) or not conn.session.all.are_ours:
            self.execute(statement.plain, given)
            return
        try:
            if preparing := conn.session.preparing(statement):
                super().execute(preparing)
                conn.session.prepared(statement)
            self.execute(statement.calling, given)
        except _NOT_KEPT as exc:
            raise conn.is_strange() from exc

    def tell(self, now: datetime, *, is_replica: bool) -> None:
        """The moment of a statement, which counts where it is a transaction by itself.

        Raises: StrangeSession, on a replica, whose answers are of another moment.
        """
        if not self.opening:
            return
        if is_replica and isinstance(self.connection, PooledConnection):
            raise self.connection.is_strange()
        self.as_of = now


def begin_snapshot(conn: PooledConnection, cur: cursor, timeout_ms: int) -> datetime:
    """Begin a read-only transaction, and tell up to when it sees all that was committed.

    A replica is recognized by its first answer, and asked again in its own way.
    """
    was_known = bool(conn.is_to_replica)
    cur.execute(BEGIN_ON_REPLICA if was_known else BEGIN, (timeout_ms,))
    as_of: datetime
    as_of, conn.is_to_replica = cur.fetchone() or ()
    if was_known or not conn.is_to_replica:
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
        self._sessions = Sessions()
        self._breaker = Breaker(failures=1, first_s=0.2, longest_s=2)
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
        keep = idle and not close and not self.closed and time.monotonic() < conn.retire_at
        if not keep:
            close_quietly(conn)
        with self._lock:
            if keep and conn.generation != self._generation:
                keep = False
                close_quietly(conn)
            self._used.pop(self._rused.pop(id(conn), None), None)
            self._stats.discarded += not keep
            if keep:
                self._pool.append(conn)

    def renew(self) -> None:
        """Look after those that are idle, the longest idle first, and open what is missing.

        Raises: PoolError when closed, psycopg2.Error.
        """
        with self._lock:
            idle = len(self._pool)
        for _ in range(idle):
            self._renew_one()
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

    def hang_up(self) -> None:
        """End whatever those that are lent do; threads must not outlive the service for it."""
        with self._lock:
            for conn in self._used.values():
                hang_up(conn)

    def _renew_one(self) -> None:
        with self._lock:
            conn = self._lend(self._pool.pop(0)) if self._pool else None
        if conn is not None:
            self.putconn(conn, close=not is_alive(conn))

    def _claim_missing(self) -> PooledConnection | None:
        with self._lock:
            if self.closed or len(self._pool) + self._taken() >= self.maxconn:
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
            if self._taken() >= self.maxconn:
                raise PoolError("connection pool exhausted")
            self._connecting += 1
            return None

    def _taken(self) -> int:
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
            raise ServerAway(str(ServerAway.__doc__))
        generation = self._generation  # what is retired while this connects is old already
        try:
            conn = cast(PooledConnection, psycopg2.connect(*self._args, **self._kwargs))
        except psycopg2.OperationalError:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        conn.session = Session(self._sessions)
        conn.autocommit = True  # transactions are begun by the text that they consist of
        # Not all at once: those that were opened together would be renewed together.
        conn.retire_at = time.monotonic() + self._lifetime_s * random.uniform(0.8, 1)
        conn.generation = generation
        if self._identify:
            try:
                conn.identity = self._identify(conn)
            except psycopg2.Error:  # without one its answers are not kept: for a while at most
                conn.retire_at = min(conn.retire_at, time.monotonic() + _UNIDENTIFIED_FOR_S)
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
