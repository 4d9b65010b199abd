"""The queue in front of the connections: fair by caller, and who waits in it takes no thread."""

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass

from config.database_errors import PoolBusy
from utils.tracing import trace_span


@dataclass(slots=True)
class PoolStats:
    """What a database counts; `size`, `waiting` and `in_use` are of now, the others only grow."""

    size: int
    acquired: int = 0
    acquire_seconds: float = 0.0
    busy: int = 0
    deadlines: int = 0
    waiting: int = 0
    in_use: int = 0
    opened: int = 0
    discarded: int = 0


def max_per_caller(size: int) -> int:
    """How many of so many one caller may hold: three quarters, and not all unless there is one."""
    return size - max(size // 4, size > 1)


class ConnectionQueue:
    """As many as there are connections.

    A place goes to the caller who holds the fewest, and of several such to the one who was served
    longest ago; a caller's own requests are served in their order. Requests without a caller (`""`)
    are the service's own, or anybody's where no key is needed: they may hold all places.
    """

    def __init__(self, size: int, waiters: int, timeout_s: float, stats: PoolStats) -> None:
        self._free = size
        self._max_per_caller = max_per_caller(size)
        self._waiters = waiters
        self._timeout_s = timeout_s
        self._stats = stats
        self._used_by: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """Of the callers who wait, the one served longest ago first."""

    @property
    def is_exhausted(self) -> bool:
        return not self._free

    async def acquire(self, deadline: float, caller: str = "") -> None:
        """Raises: PoolBusy."""
        stats = self._stats
        began = time.monotonic()
        with trace_span("pool wait"):
            if not self._acquire_free(caller):
                future = self._enqueue(caller)
                await self._wait(future, caller, min(self._timeout_s, deadline - began))
        stats.acquired += 1
        stats.acquire_seconds += time.monotonic() - began

    def release(self, caller: str = "") -> None:
        self._stats.in_use -= 1
        self._free += 1
        self._used_by[caller] -= 1
        if not self._used_by[caller]:
            del self._used_by[caller]
        self._grant_free()

    def _acquire_free(self, caller: str) -> bool:
        """Whoever waits while a place is free may not take it."""
        if not self._free or not self._may_acquire(caller):
            return False
        self._free -= 1
        self._used_by[caller] += 1
        self._stats.in_use += 1
        return True

    def _may_acquire(self, caller: str) -> bool:
        return not caller or self._used_by[caller] < self._max_per_caller

    def _enqueue(self, caller: str) -> "asyncio.Future[None]":
        """Raises: PoolBusy."""
        if self._stats.waiting >= self._waiters and not self._displace(caller):
            self._stats.busy += 1
            raise PoolBusy
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(future)
        self._stats.waiting += 1
        return future

    def _displace(self, caller: str) -> bool:
        """In a full queue the caller with the most waiting requests loses the last of them."""
        own_length = len(self._queues.get(caller, ()))
        longest = max(self._queues, key=lambda each: len(self._queues[each]), default=caller)
        if len(self._queues.get(longest, ())) <= own_length + 1:
            return False
        last = self._queues[longest][-1]
        self._remove(longest, last)
        if not last.done():
            last.set_exception(PoolBusy())
        return True

    async def _wait(self, future: "asyncio.Future[None]", caller: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            self._give_up(future, caller)
            self._stats.busy += 1
            raise PoolBusy from None
        except PoolBusy:  # displaced
            self._stats.busy += 1
            raise
        except asyncio.CancelledError:
            self._give_up(future, caller)
            raise

    def _give_up(self, future: "asyncio.Future[None]", caller: str) -> None:
        """A place may have been given at the very same moment."""
        if future in self._queues.get(caller, ()):
            self._remove(caller, future)
        elif future.done() and not future.cancelled() and future.exception() is None:
            self.release(caller)

    def _remove(self, caller: str, future: "asyncio.Future[None]") -> None:
        self._queues[caller].remove(future)
        self._stats.waiting -= 1
        if not self._queues[caller]:
            del self._queues[caller]

    def _grant_free(self) -> None:
        while self._free and (callers := list(filter(self._may_acquire, self._queues))):
            caller = min(callers, key=self._used_by.__getitem__)
            future = self._queues[caller][0]
            self._remove(caller, future)
            if future.done():  # its task was cancelled, and has not run since
                continue
            if caller in self._queues:  # behind all others
                self._queues[caller] = self._queues.pop(caller)
            self._acquire_free(caller)
            future.set_result(None)
