"""Whether questions can be answered, and by what."""

import asyncio
import time

from config.database import Connection, Database, get_connection
from config.database_errors import DatabaseError
from repo.migrate import SchemaRepo
from services.background.cache_purger import CachePurger
from services.cache_service import CacheFailed, CacheService
from services.disk_space import Storage

_REUSE_S = 0.5

_ROLLUPS = {
    "ok": "ok",
    "none": "not built yet: questions are answered from the events, as exactly and slower",
    "foreign": "of the database that this one was restored from, and being built anew: "
    "questions are answered from the events, as exactly and slower",
}
_PURGING = "holds answers about erased users, which nobody is given: they are being dropped"


class Readiness:
    """Looks for all who ask at a time: anybody may, and must not take connections from others."""

    def __init__(
        self,
        database: Database,
        cache: CacheService,
        purger: CachePurger,
        storage: Storage,
        *,
        timeout_s: float,
    ) -> None:
        self._database = database
        self._cache = cache
        self._purger = purger
        self._storage = storage
        self._timeout_s = timeout_s
        self._look: asyncio.Task[dict[str, str]] | None = None
        self._checked_at = -_REUSE_S

    async def checks(self) -> dict[str, str]:
        """What there is to tell about each part of the service; "ok" where nothing is wrong."""
        return await asyncio.shield(self._current_look())

    async def checks_within(self, seconds: float) -> dict[str, str]:
        """The checks; if they take longer, that the database does not answer in time."""
        look = self._current_look()
        await asyncio.wait({look}, timeout=seconds)
        if look.done():
            return look.result()
        return {"database": f"unavailable: no answer within {seconds:g} s"}

    def _current_look(self) -> asyncio.Task[dict[str, str]]:
        """The look that runs or has just ended, else a new one."""
        look = self._look
        if look is None or (look.done() and time.monotonic() - self._checked_at >= _REUSE_S):
            look = self._look = asyncio.create_task(self._checked())
        return look

    async def _checked(self) -> dict[str, str]:
        checks = await self._look_at_all()
        self._checked_at = time.monotonic()
        return checks

    async def _look_at_all(self) -> dict[str, str]:
        connection = get_connection(self._database, time.monotonic() + self._timeout_s)
        database = await _database_state(connection)
        return {
            "database": database,
            "cache": await self._cache_state(),
            "rollups": await _rollups_state(connection) if database == "ok" else "unknown",
            "storage": self._storage.state,
        }

    async def _cache_state(self) -> str:
        try:
            await self._cache.ping()
        except CacheFailed:
            return "unavailable: questions are answered without it"
        return _PURGING if self._purger.is_pending else "ok"


async def _database_state(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        missing = await connection.run(repo.get_missing_migrations)
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"
    # While a new version takes over, the schema is newer for a while, and the old one answers on.
    return "ok" if missing <= 0 else f"{missing} migrations missing: run the command migrate"


async def _rollups_state(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        return _ROLLUPS[await connection.run(repo.get_rollups_state)]
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"
