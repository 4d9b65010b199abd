"""Decorators for the methods of repos, and what PostgreSQL's errors mean to their callers."""

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

DISK_FULL_MESSAGE = (
    "PostgreSQL has no room left on its disk: free some there, and run the command again"
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
    """Lend the method a cursor: one call is one read-only snapshot.

    If its connection dies at work, the method is called once more with another one.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    return _with_lent_cursor(method, Connection.snapshot, ConnectionLost, SerializationFailure)


def with_statement(
    method: Callable[Concatenate[S, Cursor, P], R],
) -> Callable[Concatenate[S, P], R]:
    """The same for a method that sends a single statement, which is a snapshot by itself.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    return _with_lent_cursor(method, Connection.statement, ConnectionLost, SerializationFailure)


def in_transaction(
    method: Callable[Concatenate[S, Cursor, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Lend the method a cursor: one call is one transaction, committed when the method returns.

    If its connection dies at work, at the commit too, or PostgreSQL undoes it for the sake of
    another one, the method is called again, twice at most: it must find what it has done already.
    It rests before, or it would get in the way of the same one again.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    return _with_lent_cursor(
        method, Connection.transaction, ConnectionLost, SerializationFailure, pauses_s=(0.05, 0.2)
    )


def _with_lent_cursor(
    method: Callable[Concatenate[S, Cursor, P], R],
    open_cursor: Callable[[Connection], AbstractContextManager[Cursor]],
    *retryable: type[DatabaseError],
    pauses_s: Sequence[float] = (0,),
) -> Callable[Concatenate[S, P], R]:
    """The method is called again after each of the rests, which are up to so long."""

    def once(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with open_cursor(self.connection) as cur:
            return method(self, cur, *args, **kwargs)

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for pause_s in pauses_s:
            try:
                return once(self, *args, **kwargs)
            except retryable:
                time.sleep(random.uniform(0, pause_s))
        return once(self, *args, **kwargs)

    return call


@contextmanager
def translate_errors(rights_message: str) -> Iterator[None]:
    """For work on a connection of its own; `rights` says what a role without them may not do.

    Raises: RightsMissing, DiskFull, DatabaseUnavailable.
    """
    try:
        yield
    except errors.UndefinedTable as exc:
        raise DatabaseUnavailable(f"the schema is missing: run `{invocation('migrate')}`") from exc
    except errors.InsufficientPrivilege as exc:
        raise RightsMissing(f"{rights_message}: {exc}".strip()) from exc
    except errors.ReadOnlySqlTransaction as exc:
        raise DatabaseUnavailable("the database is read-only, as a replica is") from exc
    except errors.DiskFull as exc:
        raise DiskFull(DISK_FULL_MESSAGE) from exc
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise DatabaseUnavailable(f"PostgreSQL went away: {exc}".strip()) from exc
