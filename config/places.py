"""The queue in front of the connections: who waits in it takes no thread."""

import asyncio
import time

from config.failures import PoolBusy
from config.stats import Stats
from utils.tracing import span


class Places:
    """As many as there are connections."""

    def __init__(self, size: int, waiters: int, within_s: float, stats: Stats) -> None:
        self._free = asyncio.Semaphore(size)
        self._waiters = waiters
        self._within_s = within_s
        self._stats = stats

    @property
    def are_taken(self) -> bool:
        return self._free.locked()

    async def take(self, deadline: float) -> None:
        """Raises: PoolBusy."""
        stats = self._stats
        if self._free.locked() and stats.waiting >= self._waiters:
            stats.busy += 1
            raise PoolBusy
        began = time.monotonic()
        stats.waiting += 1
        try:
            with span("pool wait"):
                async with asyncio.timeout(min(self._within_s, deadline - began)):
                    await self._free.acquire()
        except TimeoutError:
            stats.busy += 1
            raise PoolBusy from None
        finally:
            stats.waiting -= 1
        stats.acquired += 1
        stats.acquire_seconds += time.monotonic() - began
        stats.in_use += 1

    def give_back(self) -> None:
        self._stats.in_use -= 1
        self._free.release()
