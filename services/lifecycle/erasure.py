"""Erasing users: in PostgreSQL first, and then in the cache, so that nothing old is kept again."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from common.answers import Receipt
from common.errors import Busy, TooSlow, Unavailable
from config.database import connect_with_timeout
from config.database_errors import DatabaseUnavailable, RightsMissing
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo, WritersActive
from services.background.cache_purger import CachePurger
from services.disk_space import Storage
from utils.postgres import abort_connection

_WRITERS_TIMEOUT_S = 10.0

_TOO_SLOW = (
    "The user could not be erased in time. Unless it ended at this very moment nothing was erased: "
    "repeat it, or use the command `erase`, which may take as long as it needs."
)
_WRITERS = (
    "A transaction that writes events goes on and on, and nobody can be suppressed before it ends: "
    "nothing was erased."
)
_RIGHTS = "This service may not erase: only the owner of the tables can, by the command `erase`."


class ErasureService:
    """Erases for those who ask over HTTP, one user at a time.

    What has begun is brought to its end, whether its caller still waits or not.
    """

    def __init__(self, writer_url: str, purger: CachePurger, storage: Storage) -> None:
        self._storage = storage
        self._writer_url = writer_url
        self._purger = purger
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Receipt]] = set()
        self._is_closed = False
        self._hang_up: Callable[[], None] = lambda: None

    async def erase(self, user_id: str, *, suppressed: bool, deadline: float) -> Receipt:
        """What was erased. `deadline` is a monotonic time.

        Raises: TooSlow, Busy, Unavailable, DiskFull, DatabaseUnavailable.
        """
        self._storage.check_reserve()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._lock.acquire()
        except TimeoutError:
            raise TooSlow(_TOO_SLOW) from None
        task = asyncio.create_task(self._erase_and_purge(user_id, suppressed, deadline))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is not committed, so that nobody is erased: a service that stops must not wait.

        Where it is committed the cache is cleared as well.
        """
        self._is_closed = True
        self._hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _erase_and_purge(self, user_id: str, suppressed: bool, deadline: float) -> Receipt:
        receipt = await asyncio.to_thread(self._erase, user_id, suppressed, deadline)
        return replace(receipt, cache_cleared=await self._purger.purge())

    def _on_done(self, task: "asyncio.Task[Receipt]") -> None:
        self._tasks.discard(task)
        self._lock.release()
        if not task.cancelled():
            task.exception()  # it is told to whoever still waits; nobody is no error

    def _erase(self, user_id: str, suppressed: bool, deadline: float) -> Receipt:
        """Runs in a thread, and ends with the deadline."""
        remaining_s = deadline - time.monotonic()
        try:
            with connect_with_timeout(self._writer_url, "analytics-erase", remaining_s) as conn:
                conn.autocommit = True
                self._hang_up = partial(abort_connection, conn)
                if self._is_closed:
                    raise DatabaseUnavailable("the service stops")
                if suppressed:
                    SuppressionRepo(conn).add([user_id], min(remaining_s, _WRITERS_TIMEOUT_S))
                return EraseRepo(conn).erase(user_id, is_suppressed=suppressed)
        except WritersActive:
            raise Busy(_WRITERS) from None
        except RightsMissing as exc:
            raise Unavailable(_RIGHTS) from exc
        except DatabaseUnavailable as exc:
            if time.monotonic() < deadline:
                raise
            raise TooSlow(_TOO_SLOW) from exc
