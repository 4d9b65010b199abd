"""Which edition of the past is the present one: what keeps answers about it for long.

Late events change the months that they fall in. The folder counts these changes, in PostgreSQL and
in the transaction that makes them; each worker looks for them again and again, and they are a part
of the key that an answer is kept under. So nothing has to be deleted, and nothing can be forgotten.
The last erasure, and the horizon, are in the same way a part of all other keys.
"""

import asyncio
import time
from contextlib import suppress
from datetime import datetime
from secrets import token_hex
from typing import NoReturn

from common.metrics import REPLAY_AGE, TAIL_SECONDS
from common.reach import reaching
from config.database import Database, get_connection
from config.failures import DatabaseError
from repo.editions import Editions as Known
from repo.editions import EditionsRepo
from repo.rollups.state import Months
from services.identity import Identity

_LOOK_EVERY_S = 0.3
_WITHIN_S = 2.0
_AT_WORK_S = 3.0
"""A folder that is at work leaves no events alone for longer."""
_MOST = 1_000  # ranges whose edition is remembered


class Editions:
    """What this worker knows; without rollups, or while the folder is behind, nothing."""

    def __init__(self, database: Database, identity: Identity) -> None:
        """`identity` learns which database it is."""
        self._database = database
        self._identity = identity
        self._known: Known | None = None
        self._has_looked = False
        self.erasure = _unknown()
        """The last one that this worker knows of, and the horizon; until it does, nobody shares its
        answers."""
        self._tokens: dict[Months, str | None] = {}
        self._waits = _Waits()

    def of(self, months: Months) -> str | None:
        """The edition of these months; None where there is none to rely on."""
        if months not in self._tokens:
            if len(self._tokens) >= _MOST:
                self._tokens.clear()
            self._tokens[months] = self._known.of(months) if self._known else None
        return self._tokens[months]

    @property
    def known_erasure(self) -> str:
        """The same; empty before the first one, and as long as this worker knows of none."""
        return self.erasure if self._has_looked else ""

    async def keep(self) -> NoReturn:
        """Look again and again. While PostgreSQL is away nothing changes."""
        while True:
            with suppress(DatabaseError):
                await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Raises: DatabaseError."""
        connection = get_connection(self._database, time.monotonic() + _WITHIN_S)
        repo = EditionsRepo(connection)
        with reaching("postgresql", "questions"):
            past = await connection.run(lambda: repo.get_past(self._known))
        self._identity.learn(past.identity if past else None)
        if past is None:
            self._forget()
            return
        REPLAY_AGE.set(past.age_s)
        self.erasure, self._has_looked = past.erasure, True
        waited_s = self._waits.seconds(past.waits_since)
        TAIL_SECONDS.set(waited_s)
        known = past.editions if waited_s < _AT_WORK_S else None
        if known != self._known:
            self._known, self._tokens = known, {}

    def _forget(self) -> None:
        """The database is another one, without a schema."""
        if self._has_looked:
            self.erasure, self._has_looked = _unknown(), False
            self._known, self._tokens = None, {}


def _unknown() -> str:
    return f"unknown-{token_hex(8)}"


class _Waits:
    """For how long the folder has left events alone, as far as this worker has seen."""

    def __init__(self) -> None:
        self._fold: datetime | None = None
        self._seen_at = 0.0

    def seconds(self, fold: datetime | None) -> float:
        """`fold` is the last one, if events wait since."""
        now = time.monotonic()
        if fold != self._fold:
            self._fold, self._seen_at = fold, now
        return now - self._seen_at if fold else 0.0
