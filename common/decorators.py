"""Decorators for the methods of repos."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from config.database import Connection, ConnectionLost, Cursor, DatabaseError, Undone


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
    return _lending(method, Connection.snapshot, ConnectionLost, Undone)


def in_transaction(
    method: Callable[Concatenate[S, Cursor, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Lend the method a cursor: one call is one transaction, committed when the method returns.

    If its connection dies at work, at the commit too, or PostgreSQL undoes it for the sake of
    another one, the method is called once more: it must find what it has done already.

    Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
    """
    return _lending(method, Connection.transaction, ConnectionLost, Undone)


def _lending(
    method: Callable[Concatenate[S, Cursor, P], R],
    opened: Callable[[Connection], AbstractContextManager[Cursor]],
    *passing: type[DatabaseError],
) -> Callable[Concatenate[S, P], R]:
    def once(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with opened(self.connection) as cur:
            return method(self, cur, *args, **kwargs)

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return once(self, *args, **kwargs)
        except passing:
            return once(self, *args, **kwargs)

    return call
