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
from common.server_health import track_reachability
from config.database import Database, get_connection
from config.database_errors import DatabaseError
from repo.cache_versions import CacheVersions as StoredVersions
from repo.cache_versions import CacheVersionsRepo
from repo.engine.watermark import Months
from services.database_identity import Identity

_POLL_EVERY_S = 0.3
_TIMEOUT_S = 2.0
_MAX_IDLE_S = 3.0
"""A folder that is at work leaves no events alone for longer."""
_MAX_RANGES = 1_000  # ranges whose edition is remembered


class CacheVersions:
    """What this worker knows; without rollups, or while the folder is behind, nothing."""

    def __init__(self, database: Database, identity: Identity) -> None:
        """`identity` learns which database it is."""
        self._database = database
        self._identity = identity
        self._stored: StoredVersions | None = None
        self._has_polled = False
        self.erasure_version = _unknown_erasure()
        """The last one that this worker knows of, and the horizon; until it does, nobody shares its
        answers."""
        self._by_months: dict[Months, str | None] = {}
        self._tail_age = _TailAge()

    def for_months(self, months: Months) -> str | None:
        """The edition of these months; None where there is none to rely on."""
        if months not in self._by_months:
            if len(self._by_months) >= _MAX_RANGES:
                self._by_months.clear()
            self._by_months[months] = self._stored.for_months(months) if self._stored else None
        return self._by_months[months]

    @property
    def confirmed_erasure_version(self) -> str:
        """The same; empty before the first one, and as long as this worker knows of none."""
        return self.erasure_version if self._has_polled else ""

    async def poll_forever(self) -> NoReturn:
        """Look again and again. While PostgreSQL is away nothing changes."""
        while True:
            with suppress(DatabaseError):
                await self.refresh()
            await asyncio.sleep(_POLL_EVERY_S)

    async def refresh(self) -> None:
        """Raises: DatabaseError."""
        connection = get_connection(self._database, time.monotonic() + _TIMEOUT_S)
        repo = CacheVersionsRepo(connection)
        with track_reachability("postgresql", "questions"):
            latest = await connection.run(lambda: repo.get_state(self._stored))
        self._identity.update(latest.identity if latest else None)
        if latest is None:
            self._reset()
            return
        REPLAY_AGE.set(latest.age_s)
        self.erasure_version, self._has_polled = latest.erasure_version, True
        tail_age_s = self._tail_age.age_s(latest.tail_since)
        TAIL_SECONDS.set(tail_age_s)
        stored = latest.cache_versions if tail_age_s < _MAX_IDLE_S else None
        if stored != self._stored:
            self._stored, self._by_months = stored, {}

    def _reset(self) -> None:
        """The database is another one, without a schema."""
        if self._has_polled:
            self.erasure_version, self._has_polled = _unknown_erasure(), False
            self._stored, self._by_months = None, {}


def _unknown_erasure() -> str:
    return f"unknown-{token_hex(8)}"


class _TailAge:
    """For how long the folder has left events alone, as far as this worker has seen."""

    def __init__(self) -> None:
        self._last_fold: datetime | None = None
        self._seen_at = 0.0

    def age_s(self, fold: datetime | None) -> float:
        """`fold` is the last one, if events wait since."""
        now = time.monotonic()
        if fold != self._last_fold:
            self._last_fold, self._seen_at = fold, now
        return now - self._seen_at if fold else 0.0
