"""Cache versions of months, which let responses about the past be cached for long.

A late event changes the answers about its month. The rollup writer increments the cache version of
that month, in the transaction that folds the event; each worker process polls the versions and
makes them part of the keys of cached responses. Outdated responses are thus never found, and need
not be deleted. Keys without a cache version contain the last erasure and the horizon instead.
"""

import asyncio
import time
from contextlib import suppress
from datetime import datetime
from secrets import token_hex
from typing import NoReturn

from common.metrics import REPLICA_LAG_SECONDS, ROLLUP_LAG_SECONDS, track_reachability
from config.database import Database, get_connection
from config.database_errors import DatabaseError
from repo.cache_versions import CacheState, CacheVersionsRepo
from repo.cache_versions import CacheVersions as StoredVersions
from repo.columns.cache import COLUMN_CACHE, NO_CHUNKS
from repo.engine.folded_tail import FOLDED_TAIL_CACHE
from repo.engine.user_ids import USER_ID_CACHE
from repo.engine.watermark import Months
from services.database_identity import Identity

_POLL_EVERY_S = 0.3
_TIMEOUT_S = 2.0
# A running rollup worker folds every event sooner than this. If the tail is older, no worker runs,
# and late events would not change any version: none is used then.
_MAX_IDLE_S = 3.0
_MAX_RANGES = 1_000  # ranges of months whose cache version is remembered


class CacheVersions:
    """The cache versions that this worker process has read last.

    There are none without rollups, and while the rollup worker is behind.
    """

    def __init__(self, database: Database, identity: Identity) -> None:
        """Each refresh also updates `identity`."""
        self._database = database
        self._identity = identity
        self._stored: StoredVersions | None = None
        self._has_polled = False
        # Identifies the last erasure and the horizon. It starts as a random value, so that no
        # response is shared with other processes before the first read.
        self.erasure_version = _unknown_erasure()
        self._by_months: dict[Months, str | None] = {}
        self._tail_age = _TailAge()
        self._columns = COLUMN_CACHE
        self._chunks = NO_CHUNKS
        self.epoch = object()
        """Replaced whenever a version, the last erasure or the identity changes."""
        identity.on_change(self._begin_epoch)

    def for_months(self, months: Months) -> str | None:
        """The cache version of these months; None if there is none that can be relied on."""
        if months not in self._by_months:
            if len(self._by_months) >= _MAX_RANGES:
                self._by_months.clear()
            self._by_months[months] = self._stored.for_months(months) if self._stored else None
        return self._by_months[months]

    @property
    def confirmed_erasure_version(self) -> str:
        """The erasure version as PostgreSQL has it; empty before the first read, and before the
        first erasure."""
        return self.erasure_version if self._has_polled else ""

    async def poll_forever(self) -> NoReturn:
        """Refresh every 0.3 s. While PostgreSQL is unavailable the last versions stay in use."""
        while True:
            with suppress(DatabaseError):
                await self.refresh()
            await asyncio.sleep(_POLL_EVERY_S)

    async def refresh(self) -> None:
        """Read the versions from PostgreSQL. Raises: DatabaseError."""
        connection = get_connection(self._database, time.monotonic() + _TIMEOUT_S)
        repo = CacheVersionsRepo(connection)
        with track_reachability("postgresql", "questions"):
            latest = await connection.run(lambda: self._read_state(repo))
        self._identity.update(latest.identity if latest else None)
        if latest is None:
            self._reset()
            return
        REPLICA_LAG_SECONDS.set(latest.age_s)
        if latest.erasure_version != self.erasure_version:
            self.erasure_version = latest.erasure_version
            # Erased users would stay in memory until a question needs it again.
            USER_ID_CACHE.ids.clear()
            FOLDED_TAIL_CACHE.tails.clear()
            self._begin_epoch()
        self._has_polled = True
        tail_age_s = self._tail_age.age_s(latest.tail_since)
        ROLLUP_LAG_SECONDS.set(tail_age_s)
        stored = latest.cache_versions if tail_age_s < _MAX_IDLE_S else None
        if stored != self._stored:
            self._stored, self._by_months = stored, {}
            self._begin_epoch()

    def _read_state(self, repo: CacheVersionsRepo) -> CacheState | None:
        """The current state, once replaced columns are forgotten. Runs in a thread."""
        latest = repo.get_state(self._stored, self._chunks)
        chunks = latest.live_chunks if latest else NO_CHUNKS
        if chunks != self._chunks:
            self._columns.keep(chunks)
            self._chunks = chunks
        return latest

    def _reset(self) -> None:
        """Forget all versions: the database has no schema, so it is another one than before."""
        if self._has_polled:
            self.erasure_version, self._has_polled = _unknown_erasure(), False
            self._stored, self._by_months = None, {}
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.epoch = object()


def _unknown_erasure() -> str:
    return f"unknown-{token_hex(8)}"


class _TailAge:
    """The time that the tail has waited without a fold, as this process observes it.

    The local monotonic clock measures it, so it does not depend on the clock of PostgreSQL.
    """

    def __init__(self) -> None:
        self._last_fold: datetime | None = None
        self._seen_at = 0.0

    def age_s(self, fold: datetime | None) -> float:
        """Seconds since the last fold, `fold`, was first observed; 0 if it is None, for an empty
        tail."""
        now = time.monotonic()
        if fold != self._last_fold:
            self._last_fold, self._seen_at = fold, now
        return now - self._seen_at if fold else 0.0
