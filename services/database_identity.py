"""Which database stands behind this process: a part of all keys that it has in Redis."""

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
    """As far as this process knows; until it does, it shares its keys with nobody."""

    def __init__(self, value: str | None = None) -> None:
        self.value = value or _unknown_identity()
        self._callbacks: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `changed` called whenever another value is learnt."""
        self._callbacks.append(callback)

    @property
    def is_known(self) -> bool:
        return not self.value.startswith(_UNKNOWN)

    def update(self, value: str | None) -> None:
        """None where the database has none: it is another one than before, and not migrated."""
        if value == self.value or not (value or self.is_known):
            return
        if self.is_known:
            log.warning(
                "another database is reached now: what was kept of the last one is not used"
            )
        self.value = value or _unknown_identity()
        self._notify()

    def compare(self, value: str | None) -> None:
        """A new connection leads to this database: if it is another one, those of before are
        replaced, and with them it is learnt."""
        if value and self.is_known and value != self.value:
            self._notify()

    def _notify(self) -> None:
        for callback in self._callbacks:
            callback()


async def check_forever(identity: Identity, database: Database) -> NoReturn:
    """See now and then where a new connection leads: those that live on may lead elsewhere.

    `database` closes its connection after each use. One that cannot be opened tells nothing.
    """
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        connection = get_connection(database, time.monotonic() + _TIMEOUT_S)
        with suppress(DatabaseError):
            await connection.run(partial(_use, connection))
            identity.compare(connection.identity)


def _use(connection: Connection) -> None:
    """Any statement has a connection opened, which reads its identity by then."""
    with connection.snapshot():
        pass


def _unknown_identity() -> str:
    return f"{_UNKNOWN}{token_hex(8)}"
