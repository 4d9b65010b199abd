"""Erasure of users: first in PostgreSQL, then in the cache."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from common.errors import Busy, TooSlow, Unavailable
from common.receipts import Receipt
from config.database import connect_with_timeout
from config.database_errors import DatabaseUnavailable, RightsMissing
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo, WritersActive
from services.background.cache_purger import CachePurger
from services.disk_space import Storage
from utils.postgres import abort_connection

_WRITERS_TIMEOUT_S = 10.0

_TOO_SLOW = (
    "The user could not be erased in time. Nothing was erased, unless the erasure was committed at "
    "this moment: repeat the request, or use the command `erase`, which has no time limit."
)
_WRITERS = (
    "A long transaction is writing events, and users can only be suppressed after it ends: nothing "
    "was erased, try again later."
)
_RIGHTS = "This service may not erase users: only the owner of the tables can, with `erase`."


class ErasureService:
    """Erases users on request over HTTP, one at a time.

    An erasure that has begun is completed, even if its client disconnects.
    """

    def __init__(self, writer_url: str, purger: CachePurger, storage: Storage) -> None:
        self._storage = storage
        self._writer_url = writer_url
        self._purger = purger
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Receipt]] = set()
        self._is_closed = False
        self._abort: Callable[[], None] = lambda: None

    async def erase(self, user_id: str, *, suppressed: bool, deadline: float) -> Receipt:
        """Erase a user, and return what was erased. `deadline` is a monotonic time.

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
        """Abort the erasure that runs, unless it is committed: then the cache is still purged."""
        self._is_closed = True
        self._abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _erase_and_purge(self, user_id: str, suppressed: bool, deadline: float) -> Receipt:
        receipt = await asyncio.to_thread(self._erase, user_id, suppressed, deadline)
        return replace(receipt, cache_cleared=await self._purger.purge())

    def _on_done(self, task: "asyncio.Task[Receipt]") -> None:
        self._tasks.discard(task)
        self._lock.release()
        if not task.cancelled():
            # Marks the exception as retrieved, since the client may have disconnected.
            task.exception()

    def _erase(self, user_id: str, suppressed: bool, deadline: float) -> Receipt:
        """Erase a user in PostgreSQL. Runs in a thread, and is aborted at the deadline."""
        remaining_s = deadline - time.monotonic()
        try:
            with connect_with_timeout(self._writer_url, "analytics-erase", remaining_s) as conn:
                conn.autocommit = True
                self._abort = partial(abort_connection, conn)
                # Checked after the assignment: `close` either sees this connection or was earlier.
                if self._is_closed:
                    raise DatabaseUnavailable("the service is shutting down")
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
