"""One flight: what many ask for at once is done once in this process."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from utils.tracing import span

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.create_task(work)
        self.waiting = 0


class Flights(Generic[T]):
    """Work by its key, for as long as somebody waits for it."""

    def __init__(self) -> None:
        self._open: dict[str, _Flight[T]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._open

    async def join(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the work of this key returns or raises; it is started if nobody did.

        A caller who gives up does not disturb the others; with the last of them the work ends.
        """
        flight = self._open.get(key) or self._take_off(key, start)
        flight.waiting += 1
        try:
            with span("flight"):
                return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._land(key, flight)

    def _take_off(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        flight = self._open[key] = _Flight(start())
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: str, flight: _Flight[T]) -> None:
        if self._open.get(key) is flight:
            del self._open[key]
        if not flight.task.done():
            flight.task.cancel()
        elif not flight.task.cancelled():
            flight.task.exception()  # it was told to those who waited; nobody is no error
