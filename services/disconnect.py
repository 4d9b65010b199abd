"""Cancellation of work when the client disconnects."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.types import Receive


@contextmanager
def run_after_delay(
    delay_s: float, work: Callable[[], Coroutine[Any, Any, None]]
) -> Iterator[None]:
    """Start the work in a task once the block has run for `delay_s`; cancel it after the block."""
    # A timer first: a task costs a tenth of the time of a short answer, and a timer that is
    # cancelled next to nothing.
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

# Most requests are answered sooner, and spared the cost of a task that watches the connection.
_WATCH_AFTER_S = 0.05


class ClientDisconnected(Exception):
    """The client has closed the connection, so no response can be sent."""


async def cancel_on_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await the work, and return or raise what it does.

    Raises: ClientDisconnected, if the client disconnected and the work was cancelled.
    """
    watch = _DisconnectWatch(receive)
    try:
        with run_after_delay(_WATCH_AFTER_S, watch):
            return await work
    except asyncio.CancelledError:
        # `uncancel` counts: above 0, the task is also being cancelled by another party, such as a
        # timeout or the shutdown of the server.
        if not watch.has_disconnected or watch.task.uncancel():
            raise
        raise ClientDisconnected from None


class _DisconnectWatch:
    """Waits for the disconnection of the client, and then cancels the task that created it."""

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
