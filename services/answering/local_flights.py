"""Flights of this process: concurrent requests for one key share one computation."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from utils.tracing import trace_span

T = TypeVar("T")


class Lease:
    """The right to compute a response, which Redis grants to one request of all processes.

    It belongs to the flight, whichever of its requests it was granted to. The token "" means none.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._granted = asyncio.Event()
        self._is_closed = False

    @property
    def token(self) -> str:
        return self._token

    def accept(self, token: str) -> bool:
        """Take over a lease that was granted to a request of the flight.

        Returns false if the flight has ended: the request has to release the lease itself then.
        """
        if not self._is_closed:
            # No lease is lost here: Redis grants one only after the one before has expired.
            self._token = token
            self._granted.set()
        return not self._is_closed

    async def wait_granted(self, timeout_s: float) -> None:
        """Wait until a lease is accepted, at most for `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._granted.wait()

    def close(self) -> str:
        """The token to release now, "" if there is none. No lease is accepted afterwards."""
        self._is_closed = True
        return self._token


class Flight(Generic[T]):
    """A computation that several requests wait for.

    `ends_at` is its deadline in monotonic time, and `caller` is charged with its connection; both
    are those of the request that started it.
    """

    def __init__(
        self, work: Coroutine[Any, Any, T], lease: Lease, ends_at: float, caller: str
    ) -> None:
        self.task = asyncio.create_task(work)
        self.lease = lease
        self.ends_at = ends_at
        self.caller = caller
        self.waiting = 0


class Flights(Generic[T]):
    """The open flights by key. A flight is cancelled once no request waits for it."""

    def __init__(self) -> None:
        self._open: dict[str, Flight[T]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._open

    def get(self, key: str) -> Flight[T] | None:
        return self._open.get(key)

    def start(
        self, key: str, work: Coroutine[Any, Any, T], lease: Lease, *, ends_at: float, caller: str
    ) -> Flight[T]:
        flight = self._open[key] = Flight(work, lease, ends_at, caller)
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    async def join(self, key: str, flight: Flight[T]) -> T:
        """Wait for a flight, and return or raise what its work does."""
        flight.waiting += 1
        try:
            with trace_span("flight"):
                # Shielded: the cancellation of one request must not end the work for the others.
                return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._land(key, flight)

    def _land(self, key: str, flight: Flight[T]) -> None:
        if self._open.get(key) is flight:
            del self._open[key]
        if not flight.task.done():
            flight.task.cancel()
        elif not flight.task.cancelled():
            # The requests that waited have received the exception. If none did, asyncio would log
            # it as never retrieved.
            flight.task.exception()
