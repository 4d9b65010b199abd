"""A TCP proxy with the faults of networks: it refuses, drops or delays data."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Mode = Literal["pass", "refuse", "swallow", "mute"]

_BLOCK = 65_536


class Proxy:
    """Forwards bytes to a port of this machine in a thread of its own, according to `mode`.

    In the mode `mute`, requests are forwarded and replies are dropped.
    """

    def __init__(self, target: int) -> None:
        self.mode: Mode = "pass"
        self.delay_s = 0.0
        self.port = 0
        self.target = target
        """The port for new connections; open ones stay connected to theirs."""
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def refuse(self) -> None:
        """Refuse new connections, and close all open ones."""
        self.mode = "refuse"
        self.cut()

    def cut(self) -> None:
        """Close all connections."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            writer.transport.abort()
            return
        self._open.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            while self.mode == "swallow" and await reader.read(_BLOCK):
                pass
            onward = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(onward[1])
            await asyncio.wait(
                [
                    asyncio.create_task(self._pump(reader, onward[1], {"pass", "mute"})),
                    asyncio.create_task(self._pump(onward[0], writer, {"pass"})),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._open.discard(onward[1])
            onward[1].transport.abort()
        self._open.discard(writer)
        writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: set[Mode]
    ) -> None:
        with suppress(OSError):
            while block := await reader.read(_BLOCK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.mode in passing:
                    writer.write(block)
                    await writer.drain()


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
