"""Single flight: what many ask for at once is done once in this process."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from utils.tracing import trace_span

T = TypeVar("T")


class Lease:
    """The right to compute a page, which Redis grants to one request of all processes at a time.

    It belongs to the flight, whichever of its requests was granted it; "" is none.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._granted = asyncio.Event()
        self._is_closed = False

    @property
    def token(self) -> str:
        return self._token

    def accept(self, token: str) -> bool:
        """False after the end of the flight: then the lease is still the request's to return."""
        if not self._is_closed:
            self._token = token  # Redis grants no second one before the first is over
            self._granted.set()
        return not self._is_closed

    async def wait_granted(self, timeout_s: float) -> None:
        """Wait until a lease is taken over, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._granted.wait()

    def close(self) -> str:
        """The lease that is to be returned now; no other is taken over."""
        self._is_closed = True
        return self._token


class Flight(Generic[T]):
    """Work that many wait for; it ends at `ends_at`, a monotonic time, and is done for `caller`."""

    def __init__(
        self, work: Coroutine[Any, Any, T], lease: Lease, ends_at: float, caller: str
    ) -> None:
        self.task = asyncio.create_task(work)
        self.lease = lease
        self.ends_at = ends_at
        self.caller = caller
        self.waiting = 0


class Flights(Generic[T]):
    """Flights by their key, for as long as somebody waits for them."""

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
        """What the work returns or raises.

        A caller who gives up does not disturb the others; with the last of them the work ends.
        """
        flight.waiting += 1
        try:
            with trace_span("flight"):
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
            flight.task.exception()  # it was told to those who waited; nobody is no error
