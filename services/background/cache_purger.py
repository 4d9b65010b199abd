"""Purge of cached responses about erased users, repeated until it succeeds.

PostgreSQL stores the last erasure, and Redis the last one after which it was purged. Each worker
process compares them every second. A purge that failed is thus made up for, whether Redis was
unavailable, was restored with older data, or the process ended between erasure and purge.
"""

import asyncio
from contextlib import suppress
from typing import NoReturn

from common.metrics import CACHE_CLEARING_PENDING
from config.database_errors import DatabaseError
from services.answering.cache_versions import CacheVersions
from services.cache_service import CacheFailed, CacheService
from services.database_identity import Identity

_CHECK_EVERY_S = 1.0
_TRIES = 3
_PAUSE_S = 0.1


class CachePurger:
    """Purges the cache for one worker process."""

    def __init__(self, cache: CacheService, versions: CacheVersions, identity: Identity) -> None:
        self._cache = cache
        self._versions = versions
        self._identity = identity
        self._last_seen: str | None = None
        self._cleared: str | None = None

    @property
    def is_pending(self) -> bool:
        """Whether Redis may hold answers about erased users, as far as this worker knows."""
        erasure = self._versions.confirmed_erasure_version
        return bool(erasure) and erasure != self._cleared

    async def purge(self) -> bool:
        """Purge the cache after an erasure by this process. Returns whether that succeeded."""
        with suppress(DatabaseError):
            await self._versions.refresh()
        if not self._identity.is_known or not await purge_cache(self._cache):
            return False
        # The purge has succeeded: if recording it fails, a later check purges once more.
        with suppress(DatabaseError, CacheFailed):
            await self._versions.refresh()
            if erasure := self._versions.confirmed_erasure_version:
                await self._cache.mark_cleared(erasure)
                self._last_seen = self._cleared = erasure
        return True

    async def poll_forever(self) -> NoReturn:
        """Check every second, and publish whether a purge is pending."""
        while True:
            with suppress(CacheFailed):
                await self.check()
            CACHE_CLEARING_PENDING.set(self.is_pending)
            await asyncio.sleep(_CHECK_EVERY_S)

    async def check(self) -> None:
        """Purge the cache, unless that was done after the last erasure. Raises: CacheFailed."""
        erasure = self._versions.confirmed_erasure_version
        if not erasure:
            return
        # A worker that sees a new erasure purges in any case. It may read from a replica that lags
        # behind, and may have stored responses after another worker has purged.
        is_new = self._last_seen is not None and self._last_seen != erasure
        if is_new or not await self._cache.is_cleared(erasure):
            self._cleared = None
            await self._cache.purge_users()
            await self._cache.mark_cleared(erasure)
        self._last_seen = self._cleared = erasure


async def purge_cache(cache: CacheService) -> bool:
    """Delete all responses about single users. Returns whether Redis could be reached."""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        with suppress(CacheFailed):
            await cache.purge_users()
            return True
    return False
