"""Evaluate readings in threads of their own, which hold no connection."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from common.metrics import EVALUATION_SECONDS, EVALUATION_WAIT_SECONDS, EVALUATIONS
from common.questions.answer import Checkpoint
from config.database_errors import DeadlineExceeded, PoolBusy
from config.fair_queue import FairQueue, PoolStats
from utils import tracing

R = TypeVar("R")

_MAX_BYTES = 256 * 2**20
_NO_TIMEOUT_S = 3_600.0  # the deadline of a request is sooner


class Evaluator:
    """Runs evaluations, as many at once as there are processors, fairly between callers.

    More threads would only share the processors, and lose a third of them to Python's lock. One
    caller never uses all threads, so that long evaluations do not hold up those of others.
    """

    def __init__(
        self, max_waiting: int, threads: int | None = None, max_bytes: int = _MAX_BYTES
    ) -> None:
        """`max_waiting` is how many evaluations may wait for a thread, and `max_bytes` how much
        all open ones may hold; one is always admitted.
        """
        threads = threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(threads, "evaluation")
        self._queue = FairQueue(threads, max_waiting, _NO_TIMEOUT_S, PoolStats(threads))
        self._max_bytes = max_bytes
        self._bytes = 0
        self._is_closed = False

    async def run(
        self,
        evaluate: Callable[[Checkpoint], R],
        name: str,
        deadline: float,
        size: int = 0,
        caller: str = "",
    ) -> R:
        """Return what an evaluation for a question of this name returns; it holds `size` bytes.

        It ends at its next checkpoint once the deadline, in monotonic time, has passed or the
        caller is cancelled.

        Raises: PoolBusy, DeadlineExceeded, and what the evaluation raises.
        """
        if self._bytes and self._bytes + size > self._max_bytes:
            raise PoolBusy
        self._bytes += size
        try:
            with EVALUATIONS.track_inprogress(), tracing.span("evaluation"):
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await self._run_in_turn(evaluate, name, deadline, caller)
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._bytes -= size

    async def _run_in_turn(
        self, evaluate: Callable[[Checkpoint], R], name: str, deadline: float, caller: str
    ) -> R:
        queued_at = time.perf_counter()
        await self._queue.acquire(deadline + _NO_TIMEOUT_S, caller)
        EVALUATION_WAIT_SECONDS.observe(time.perf_counter() - queued_at)
        stop = threading.Event()
        checkpoint = partial(self._check, stop, deadline)
        try:
            future = self._submit(partial(evaluate, checkpoint), checkpoint, name)
        except BaseException:
            self._queue.release(caller)
            raise
        # The thread is in use until the evaluation ends, also if the caller is cancelled.
        future.add_done_callback(partial(self._release, caller))
        try:
            return await asyncio.shield(future)
        finally:
            stop.set()

    def close(self) -> None:
        """End all evaluations at their next checkpoint."""
        self._is_closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, work: Callable[[], R], checkpoint: Checkpoint, name: str
    ) -> "asyncio.Future[R]":
        def run() -> R:
            checkpoint()
            with EVALUATION_SECONDS.labels(name).time():
                return work()

        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, copy_context().run, run)

    def _release(self, caller: str, future: "asyncio.Future[R]") -> None:
        self._queue.release(caller)
        if not future.cancelled():
            # Marks the exception as retrieved: the caller may have been cancelled, and asyncio
            # would log it.
            future.exception()

    def _check(self, stop: threading.Event, deadline: float) -> None:
        """Raises: DeadlineExceeded, if the result is not needed any more."""
        if stop.is_set() or self._is_closed or time.monotonic() >= deadline:
            raise DeadlineExceeded
