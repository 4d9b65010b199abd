"""A queue for connections or threads: fair between callers, without a thread per waiter."""

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass

from config.database_errors import PoolBusy


@dataclass(slots=True)
class PoolStats:
    """Statistics of a pool and its queue.

    `size`, `waiting` and `in_use` are current values, all others are counters.
    """

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
    """The number of connections of `size` that one caller may use: about three quarters of them,
    but not all, unless there is only one."""
    return size - max(size // 4, size > 1)


class FairQueue:
    """Grants connections, or threads, to waiting requests.

    A free one goes to the caller that uses the fewest, and of several to the one that was served
    longest ago. Requests of one caller are served in order. The caller `""` is the service itself,
    or any client if no key is required; it may use all.
    """

    def __init__(self, size: int, waiters: int, timeout_s: float, stats: PoolStats) -> None:
        self._free = size
        self._max_per_caller = max_per_caller(size)
        self._waiters = waiters
        self._timeout_s = timeout_s
        self._stats = stats
        self._used_by: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """The waiting requests by caller; the caller that was served longest ago comes first."""

    @property
    def is_exhausted(self) -> bool:
        """Whether no connection is free."""
        return not self._free

    async def acquire(self, deadline: float, caller: str = "") -> None:
        """Wait for a connection, at most until `deadline`, a monotonic time. Raises: PoolBusy."""
        stats = self._stats
        began = time.monotonic()
        if not self._acquire_free(caller):
            future = self._enqueue(caller)
            await self._wait(future, caller, min(self._timeout_s, deadline - began))
        stats.acquired += 1
        stats.acquire_seconds += time.monotonic() - began

    def release(self, caller: str = "") -> None:
        """Give a connection back, and grant it to the next request."""
        self._stats.in_use -= 1
        self._free += 1
        self._used_by[caller] -= 1
        if not self._used_by[caller]:
            del self._used_by[caller]
        self._grant_free()

    def _acquire_free(self, caller: str) -> bool:
        # The queue need not be checked: a request that waits although a connection is free belongs
        # to a caller at its limit.
        if not self._free or not self._may_acquire(caller):
            return False
        self._free -= 1
        self._used_by[caller] += 1
        self._stats.in_use += 1
        return True

    def _may_acquire(self, caller: str) -> bool:
        return not caller or self._used_by[caller] < self._max_per_caller

    def _enqueue(self, caller: str) -> "asyncio.Future[None]":
        """Add a request to the queue. Raises: PoolBusy if the queue is full."""
        if self._stats.waiting >= self._waiters and not self._displace(caller):
            self._stats.busy += 1
            raise PoolBusy
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(future)
        self._stats.waiting += 1
        return future

    def _displace(self, caller: str) -> bool:
        """Make room in a full queue: the caller with the most waiting requests loses the last one.

        Returns false if that is not fair, since `caller` itself has about as many.
        """
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
        """Take a request out of the queue. A connection that was granted meanwhile is released."""
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
            # A cancelled request stays in the queue until its task runs again.
            if future.done():
                continue
            if caller in self._queues:  # move the caller behind all others
                self._queues[caller] = self._queues.pop(caller)
            self._acquire_free(caller)
            future.set_result(None)
