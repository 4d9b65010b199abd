"""Work that ends when the client hangs up: nobody else tells it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.types import Receive


@contextmanager
def run_after_delay(
    delay_s: float, work: Callable[[], Coroutine[Any, Any, None]]
) -> Iterator[None]:
    """Begin the work when the block has taken so long, and end it with the block.

    A task costs as much as a tenth of a short answer; a timer that is cancelled next to nothing.
    """
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    timer = loop.call_later(delay_s, lambda: tasks.append(loop.create_task(work())))
    try:
        yield
    finally:
        timer.cancel()
        for task in tasks:
            task.cancel()


T = TypeVar("T")

_WATCH_AFTER_S = 0.05  # what is answered by then is not worth watching for


class ClientDisconnected(Exception):
    """The client hung up; there is nobody to answer."""


async def cancel_on_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns or raises. Raises: ClientGone, when the work was ended."""
    watch = _DisconnectWatch(receive)
    try:
        with run_after_delay(_WATCH_AFTER_S, watch):
            return await work
    except asyncio.CancelledError:
        if not watch.has_disconnected or watch.task.uncancel():  # somebody else ends it as well
            raise
        raise ClientDisconnected from None


class _DisconnectWatch:
    """Cancels the task that asks when the client has hung up."""

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task
        self.task = task
        self.has_disconnected = False
        self._receive = receive

    async def __call__(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_disconnected = True
        self.task.cancel()
