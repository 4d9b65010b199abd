"""Work ends when the client hangs up, and whoever else ends it is heard as well."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from starlette.types import Message

from services.disconnect import ClientDisconnected, cancel_on_disconnect, run_after_delay


class Client:
    """Sends the rest of its request, and hangs up when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._rest: list[Message] = [{"type": "http.request"}]

    async def receive(self) -> Message:
        if self._rest:
            return self._rest.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}


class Work:
    """Takes so many seconds, and tells whether it was ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.was_ended = False

    async def __call__(self) -> str:
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.was_ended = True
            raise
        return "done"


def run(asking: Callable[[Client], Awaitable[None]]) -> None:
    async def run_asking() -> None:
        await asking(Client())

    asyncio.run(run_asking())


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_what_is_done_is_returned(seconds: float) -> None:
    async def asking(client: Client) -> None:
        assert await cancel_on_disconnect(client.receive, Work(seconds)()) == "done"

    run(asking)


def test_work_ends_with_the_client() -> None:
    async def asking(client: Client) -> None:
        work, task = Work(10), asyncio.current_task()
        asyncio.get_running_loop().call_later(0.1, client.gone.set)
        with pytest.raises(ClientDisconnected):
            await cancel_on_disconnect(client.receive, work())
        assert work.was_ended
        assert task
        assert task.cancelling() == 0  # who asked goes on
        await asyncio.sleep(0)

    run(asking)


def test_cancellation_from_outside_is_propagated() -> None:
    async def asking(client: Client) -> None:
        work = Work(10)
        task = asyncio.create_task(cancel_on_disconnect(client.receive, work()))
        await asyncio.sleep(0.1)
        task.cancel()
        client.gone.set()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert work.was_ended
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await cancel_on_disconnect(Client().receive, Work(10)())

    run(asking)


def test_what_is_seldom_needed_begins_late() -> None:
    begun: list[str] = []

    async def beside() -> None:
        begun.append("begun")
        try:
            await asyncio.sleep(10)
        finally:
            begun.append("ended")

    async def asking(_: Client) -> None:
        with run_after_delay(0.1, beside):
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert begun == []
        with run_after_delay(0.01, beside):
            await asyncio.sleep(0.1)
        await asyncio.sleep(0)
        assert begun == ["begun", "ended"]

    run(asking)
