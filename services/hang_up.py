"""Work that ends when the client hangs up: nobody else tells it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


async def unless_hung_up(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns or raises. Raises: ClientGone, when the work was ended."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_hung_up(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
