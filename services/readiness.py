"""Whether questions can be answered, and by what."""

import asyncio
import time

from config.database import Connection, Database, get_connection
from config.failures import DatabaseError
from repo.schema import SchemaRepo
from services.cache_clearing import CacheClearing
from services.cache_service import CacheFailed, CacheService
from services.storage import Storage

_REMEMBERED_S = 0.5

_ROLLUPS = {
    "ok": "ok",
    "none": "not built yet: questions are answered from the events, as exactly and slower",
    "foreign": "of the database that this one was restored from, and being built anew: "
    "questions are answered from the events, as exactly and slower",
}
_CLEARING = "holds answers about erased users, which nobody is given: they are being dropped"


class Readiness:
    """Looks for all who ask at a time: anybody may, and must not take connections from others."""

    def __init__(
        self,
        database: Database,
        cache: CacheService,
        clearing: CacheClearing,
        storage: Storage,
        *,
        within_s: float,
    ) -> None:
        self._database = database
        self._cache = cache
        self._clearing = clearing
        self._storage = storage
        self._within_s = within_s
        self._look: asyncio.Task[dict[str, str]] | None = None
        self._looked_at = -_REMEMBERED_S

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
        if look is None or (look.done() and time.monotonic() - self._looked_at >= _REMEMBERED_S):
            look = self._look = asyncio.create_task(self._checked())
        return look

    async def _checked(self) -> dict[str, str]:
        checks = await self._look_at_all()
        self._looked_at = time.monotonic()
        return checks

    async def _look_at_all(self) -> dict[str, str]:
        connection = get_connection(self._database, time.monotonic() + self._within_s)
        database = await _database(connection)
        return {
            "database": database,
            "cache": await self._of_cache(),
            "rollups": await _rollups(connection) if database == "ok" else "unknown",
            "storage": self._storage.state,
        }

    async def _of_cache(self) -> str:
        try:
            await self._cache.ping()
        except CacheFailed:
            return "unavailable: questions are answered without it"
        return _CLEARING if self._clearing.is_pending else "ok"


async def _database(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        missing = await connection.run(repo.get_missing_migrations)
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"
    # While a new version takes over, the schema is newer for a while, and the old one answers on.
    return "ok" if missing <= 0 else f"{missing} migrations missing: run the command migrate"


async def _rollups(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        return _ROLLUPS[await connection.run(repo.get_state_of_rollups)]
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"
