"""Readiness checks: whether questions can be answered, and from where."""

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
    "none": "not built yet: questions are answered from the events, exactly but more slowly",
    "foreign": "belong to the database that this one was restored from, and are being rebuilt: "
    "questions are answered from the events, exactly but more slowly",
}
_PURGING = "holds responses about erased users, which are not served and are being deleted"


class Readiness:
    """Runs the readiness checks.

    Concurrent calls share one run, since the endpoint needs no key: clients must not be able to
    occupy connections with it.
    """

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
        self._task: asyncio.Task[dict[str, str]] | None = None
        self._checked_at = -_REUSE_S

    async def checks(self) -> dict[str, str]:
        """The state of each part of the service, by name; "ok" if nothing is wrong."""
        # Shielded: a client that disconnects must not cancel the checks for the others.
        return await asyncio.shield(self._current_task())

    async def checks_within(self, seconds: float) -> dict[str, str]:
        """The checks; if they take longer, only that the database does not reply in time."""
        task = self._current_task()
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        return {"database": f"unavailable: no answer within {seconds:g} s"}

    def _current_task(self) -> asyncio.Task[dict[str, str]]:
        """The run in progress, or one that ended within 0.5 s, else a new one."""
        task = self._task
        if task is None or (task.done() and time.monotonic() - self._checked_at >= _REUSE_S):
            task = self._task = asyncio.create_task(self._run_checks())
        return task

    async def _run_checks(self) -> dict[str, str]:
        checks = await self._check_all()
        self._checked_at = time.monotonic()
        return checks

    async def _check_all(self) -> dict[str, str]:
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
    # During a rolling upgrade the schema may be newer than this version, which still works with it.
    return "ok" if missing <= 0 else f"{missing} migrations missing: run the command migrate"


async def _rollups_state(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        return _ROLLUPS[await connection.run(repo.get_rollups_state)]
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"
