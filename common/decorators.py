"""Decorators for the methods of repos."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from config.database import Connection, ConnectionLost, Cursor


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

    def once(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.connection.snapshot() as cur:
            return method(self, cur, *args, **kwargs)

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return once(self, *args, **kwargs)
        except ConnectionLost:
            return once(self, *args, **kwargs)

    return call
