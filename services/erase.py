"""Erasing users: in PostgreSQL first, and then in the cache, so that nothing old is kept again."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from common.errors import Busy, TooSlow, Unavailable
from common.receipts import Receipt
from config.database import connected_for
from config.failures import DatabaseUnavailable, RightsMissing
from repo.erase import EraseRepo
from repo.suppress import SuppressionRepo, WritersAtWork
from services.cache_clearing import CacheClearing
from services.storage import Storage
from utils.postgres import hang_up

_WRITERS_END_WITHIN_S = 10.0

_TOO_SLOW = (
    "The user could not be erased in time. Unless it ended at this very moment nothing was erased: "
    "repeat it, or use the command `erase`, which may take as long as it needs."
)
_WRITERS = (
    "A transaction that writes events goes on and on, and nobody can be suppressed before it ends: "
    "nothing was erased."
)
_RIGHTS = "This service may not erase: only the owner of the tables can, by the command `erase`."


class Erasing:
    """Erases for those who ask over HTTP, one user at a time.

    What has begun is brought to its end, whether its caller still waits or not.
    """

    def __init__(self, writer_url: str, clearing: CacheClearing, storage: Storage) -> None:
        self._storage = storage
        self._writer_url = writer_url
        self._clearing = clearing
        self._turn = asyncio.Lock()
        self._begun: set[asyncio.Task[Receipt]] = set()
        self._is_closed = False
        self._hang_up: Callable[[], None] = lambda: None

    async def erase(self, user_id: str, *, suppressed: bool, deadline: float) -> Receipt:
        """What was erased. `deadline` is a monotonic time.

        Raises: TooSlow, Busy, Unavailable, DiskFull, DatabaseUnavailable.
        """
        self._storage.check_reserve()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._turn.acquire()
        except TimeoutError:
            raise TooSlow(_TOO_SLOW) from None
        task = asyncio.create_task(self._erase_and_clear(user_id, suppressed, deadline))
        self._begun.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is not committed, so that nobody is erased: a service that stops must not wait.

        Where it is committed the cache is cleared as well.
        """
        self._is_closed = True
        self._hang_up()
        await asyncio.gather(*self._begun, return_exceptions=True)

    async def _erase_and_clear(self, user_id: str, suppressed: bool, deadline: float) -> Receipt:
        receipt = await asyncio.to_thread(self._erase, user_id, suppressed, deadline)
        return replace(receipt, cache_cleared=await self._clearing.clear())

    def _ended(self, task: "asyncio.Task[Receipt]") -> None:
        self._begun.discard(task)
        self._turn.release()
        if not task.cancelled():
            task.exception()  # it is told to whoever still waits; nobody is no error

    def _erase(self, user_id: str, suppressed: bool, deadline: float) -> Receipt:
        """Runs in a thread, and ends with the deadline."""
        left_s = deadline - time.monotonic()
        try:
            with connected_for(self._writer_url, "analytics-erase", left_s) as conn:
                conn.autocommit = True
                self._hang_up = partial(hang_up, conn)
                if self._is_closed:
                    raise DatabaseUnavailable("the service stops")
                if suppressed:
                    SuppressionRepo(conn).add([user_id], min(left_s, _WRITERS_END_WITHIN_S))
                return EraseRepo(conn).erase(user_id, suppressed=suppressed)
        except WritersAtWork:
            raise Busy(_WRITERS) from None
        except RightsMissing as exc:
            raise Unavailable(_RIGHTS) from exc
        except DatabaseUnavailable as exc:
            if time.monotonic() < deadline:
                raise
            raise TooSlow(_TOO_SLOW) from exc
