"""Dropping answers about erased users from Redis, again and again until it has worked.

PostgreSQL knows the last erasure, and Redis since which one it was cleared. Each worker compares
them for as long as it runs, so whatever fails during an erasure leaves nothing behind: Redis
was away, came back with what it held before, or the process ended in between.
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
    """What one worker does for it."""

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
        """After an erasure of this process; whether it worked."""
        with suppress(DatabaseError):
            await self._versions.refresh()
        if not self._identity.is_known or not await purge_cache(self._cache):
            return False
        with suppress(DatabaseError, CacheFailed):
            await self._versions.refresh()
            if erasure := self._versions.confirmed_erasure_version:
                await self._cache.mark_cleared(erasure)
                self._last_seen = self._cleared = erasure
        return True

    async def poll_forever(self) -> NoReturn:
        """Check again and again."""
        while True:
            with suppress(CacheFailed):
                await self.check()
            CACHE_CLEARING_PENDING.set(self.is_pending)
            await asyncio.sleep(_CHECK_EVERY_S)

    async def check(self) -> None:
        """Clear the cache, unless that has been done since the last erasure. Raises: CacheFailed.

        A worker that sees another erasure than before clears it in any case: whoever did so
        already may have seen it earlier, since this one may ask a replica.
        """
        erasure = self._versions.confirmed_erasure_version
        if not erasure:
            return
        is_new = self._last_seen is not None and self._last_seen != erasure
        if is_new or not await self._cache.is_cleared(erasure):
            self._cleared = None
            await self._cache.purge_users()
            await self._cache.mark_cleared(erasure)
        self._last_seen = self._cleared = erasure


async def purge_cache(cache: CacheService) -> bool:
    """Drop what the cache may tell of users; whether it could be reached."""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        with suppress(CacheFailed):
            await cache.purge_users()
            return True
    return False
