"""Work that ends when the client hangs up: nobody else tells it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from utils.meanwhile import meanwhile

T = TypeVar("T")

_SOON_S = 0.05  # what is answered by then is not worth watching for


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


async def unless_hung_up(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns or raises. Raises: ClientGone, when the work was ended."""
    watch = _Watch(receive)
    try:
        with meanwhile(_SOON_S, watch):
            return await work
    except asyncio.CancelledError:
        if not watch.saw_it or watch.asking.uncancel():  # somebody else ends it as well
            raise
        raise ClientGone from None


class _Watch:
    """Cancels the task that asks when the client has hung up."""

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task
        self.asking = task
        self.saw_it = False
        self._receive = receive

    async def __call__(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.saw_it = True
        self.asking.cancel()
