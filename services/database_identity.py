"""The identity of the database that this process uses, a part of all its keys in Redis."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import NoReturn

from config.database import Connection, Database, get_connection
from config.database_errors import DatabaseError

log = logging.getLogger("analytics.identity")

_UNKNOWN = "unknown-"
_CHECK_EVERY_S = 10.0
_TIMEOUT_S = 2.0


class Identity:
    """The identity as last read.

    It starts as a random value, so that no keys are shared before the first read.
    """

    def __init__(self, value: str | None = None) -> None:
        self.value = value or _unknown_identity()
        self._callbacks: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the identity changes."""
        self._callbacks.append(callback)

    @property
    def is_known(self) -> bool:
        """Whether the identity has been read from the database."""
        return not self.value.startswith(_UNKNOWN)

    def update(self, value: str | None) -> None:
        """Set the identity as read. None, for a database without a schema, counts as unknown."""
        if value == self.value or not (value or self.is_known):
            return
        if self.is_known:
            log.warning(
                "the URL leads to another database: cached responses of the last one are not used"
            )
        self.value = value or _unknown_identity()
        self._notify()

    def compare(self, value: str | None) -> None:
        """Compare the identity of a new connection. If it differs, all connections are replaced,
        and the new ones update the identity."""
        if value and self.is_known and value != self.value:
            self._notify()

    def _notify(self) -> None:
        for callback in self._callbacks:
            callback()


async def check_forever(identity: Identity, database: Database) -> NoReturn:
    """Compare the identity of a new connection every 10 s.

    After a failover or a change of DNS, open connections may lead to another server than new ones.
    `database` must close its connection after each use. Failed connections are ignored.
    """
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        connection = get_connection(database, time.monotonic() + _TIMEOUT_S)
        with suppress(DatabaseError):
            await connection.run(partial(_use, connection))
            identity.compare(connection.identity)


def _use(connection: Connection) -> None:
    # An empty transaction opens a connection, and the pool reads the identity of each new one.
    with connection.snapshot():
        pass


def _unknown_identity() -> str:
    return f"{_UNKNOWN}{token_hex(8)}"
