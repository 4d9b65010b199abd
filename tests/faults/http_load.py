"""A client for many concurrent requests over plain sockets, which is not the bottleneck."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

BROKEN = 0


class Reply(NamedTuple):
    """A response; its status is BROKEN if the connection ended before it was complete."""

    status: int
    headers: dict[str, str]
    body: bytes
    began: float
    seconds: float


class Client:
    """A persistent connection."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._port = port
        lines = {"Host": f"127.0.0.1:{port}", **headers}
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(
        self, path: str, more: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> Reply:
        return await self.ask("GET", path, b"", more or {}, timeout_s)

    async def ask(
        self, method: str, path: str, body: bytes, more: Mapping[str, str], timeout_s: float = 30
    ) -> Reply:
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        lines += f"Content-Length: {len(body)}\r\n" if body else ""
        request = f"{method} {path} HTTP/1.1\r\n{self._lines}{lines}\r\n".encode() + body
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                status, headers, reply_body = await self._answer(request)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            status, headers, reply_body = BROKEN, {}, b""
        return Reply(status, headers, reply_body, began, time.monotonic() - began)

    async def _answer(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        lines = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in lines}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), headers, body

    def close(self) -> None:
        if self._streams:
            self._streams[1].transport.abort()
            self._streams = None


async def _ask_in_turn(
    client: Client, paths: Iterable[str], replies: list[Reply], until: Callable[[], bool]
) -> None:
    for path in paths:
        if until():
            break
        replies.append(await client.get(path))
    client.close()


def ask_all(
    port: int,
    paths: Iterable[str],
    headers: dict[str, str],
    *,
    at_once: int,
    until: Callable[[], bool] = lambda: False,
) -> list[Reply]:
    """Request all paths over `at_once` connections, or as many as there is time for."""

    async def run() -> list[Reply]:
        shared = iter(paths)
        replies: list[Reply] = []
        clients = [Client(port, headers) for _ in range(at_once)]
        turns = (_ask_in_turn(client, shared, replies, until) for client in clients)
        await asyncio.gather(*turns)
        return replies

    # The proxies run in this process. Garbage collection over all replies would delay them for
    # longer than the timeout of Redis commands.
    gc.disable()
    try:
        return asyncio.run(run())
    finally:
        gc.enable()


def hang_up_after(port: int, path: str, headers: dict[str, str], seconds: float) -> None:
    """Send a request, and close the connection before its response."""

    async def run() -> None:
        client = Client(port, headers)
        with suppress(TimeoutError):
            await client.get(path, timeout_s=seconds)
        client.close()

    asyncio.run(run())


def percentile(replies: list[Reply], percent: float) -> float:
    """The percentile of the response times, in seconds."""
    ordered = sorted(reply.seconds for reply in replies)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]
