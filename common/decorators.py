"""Decorators that give methods of repositories a cursor, and translate PostgreSQL's errors."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import psycopg2
from psycopg2 import errors

from config.database import Connection, Cursor
from config.database_errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DiskFull,
    RightsMissing,
    SerializationFailure,
)
from config.invocation import invocation

DriverError = psycopg2.Error
"""Every error of psycopg2, for modules that must not import it."""
DISK_FULL_MESSAGE = (
    "PostgreSQL has no room left on its disk: free some space and run the command again"
)


class HasConnection(Protocol):
    @property
    def connection(self) -> Connection: ...


S = TypeVar("S", bound=HasConnection)
P = ParamSpec("P")
R = TypeVar("R")


def with_cursor(
    method: Callable[Concatenate[S, Cursor, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Pass the method a cursor; each call is one read-only snapshot.

    If the connection is lost, the method is called once more with another one.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    return _with_lent_cursor(method, Connection.snapshot, ConnectionLost, SerializationFailure)


def with_statement(
    method: Callable[Concatenate[S, Cursor, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Pass a method that executes a single statement a cursor; the statement is its snapshot.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    return _with_lent_cursor(method, Connection.statement, ConnectionLost, SerializationFailure)


def in_transaction(
    method: Callable[Concatenate[S, Cursor, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Pass the method a cursor; each call is one transaction, committed when the method returns.

    If the connection is lost, or PostgreSQL rolls the transaction back because of another one, the
    method is called again, at most twice. The connection may be lost during the commit, so the
    method must detect what an earlier call has stored.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    # Pauses, or the transaction would conflict with the same one again.
    return _with_lent_cursor(
        method, Connection.transaction, ConnectionLost, SerializationFailure, pauses_s=(0.05, 0.2)
    )


def _with_lent_cursor(
    method: Callable[Concatenate[S, Cursor, P], R],
    open_cursor: Callable[[Connection], AbstractContextManager[Cursor]],
    *retryable: type[DatabaseError],
    pauses_s: Sequence[float] = (0,),
) -> Callable[Concatenate[S, P], R]:
    """Call the method again after each pause, which lasts a random time up to `pauses_s`."""

    def once(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with open_cursor(self.connection) as cur:
            return method(self, cur, *args, **kwargs)

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for pause_s in pauses_s:
            try:
                return once(self, *args, **kwargs)
            except retryable:
                # Random, so that two transactions that collided do not do so again.
                time.sleep(random.uniform(0, pause_s))
        return once(self, *args, **kwargs)

    return call


def driver_message(exc: DriverError) -> str:
    """Return PostgreSQL's message without its details, which may hold values."""
    return exc.diag.message_primary or str(exc)


@contextmanager
def translate_errors(rights_message: str) -> Iterator[None]:
    """Translate psycopg2's errors in a block that uses its own connection.

    `rights_message` says what the role may not do. Raises: RightsMissing, DiskFull,
    DatabaseUnavailable.
    """
    try:
        yield
    except errors.UndefinedTable as exc:
        raise DatabaseUnavailable(f"the schema is missing: run `{invocation('migrate')}`") from exc
    except errors.InsufficientPrivilege as exc:
        raise RightsMissing(f"{rights_message}: {exc}".strip()) from exc
    except errors.ReadOnlySqlTransaction as exc:
        raise DatabaseUnavailable(
            "the database is read-only, as a replica is: connect to the primary"
        ) from exc
    except errors.DiskFull as exc:
        raise DiskFull(DISK_FULL_MESSAGE) from exc
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise DatabaseUnavailable(f"the connection to PostgreSQL was lost: {exc}".strip()) from exc
