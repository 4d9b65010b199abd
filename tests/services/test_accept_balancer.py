"""Connections of a shared socket, taken in turn."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import pytest

from tests.wait_until import adjusted_for_load
from utils.accept_balancer import AcceptBalancer, Loop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def run(test: Callable[[socket.socket, AcceptBalancer], Awaitable[None]]) -> None:
    async def run_with_timeout() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:
            served = await asyncio.get_running_loop().create_server(Echo, sock=sock, backlog=2048)
            assert isinstance(served, AcceptBalancer)
            await test(sock, served)
            served.close()
            await served.wait_closed()

    with asyncio.Runner(loop_factory=partial(Loop, 1000, in_turn=True)) as runner:
        runner.run(run_with_timeout())


async def echoed(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    reply = await reader.readexactly(5)
    writer.close()
    await writer.wait_closed()
    return reply


def test_each_connection_is_served_at_once() -> None:
    async def test(sock: socket.socket, _: AcceptBalancer) -> None:
        port = sock.getsockname()[1]
        for _turn in range(20):
            assert await echoed(port) == b"hello"
            await asyncio.sleep(0.01)

    run(test)


def test_500_simultaneous_connections_are_served_in_time() -> None:
    async def test(sock: socket.socket, _: AcceptBalancer) -> None:
        port = sock.getsockname()[1]
        began = time.monotonic()
        replies = await asyncio.gather(*(echoed(port) for _ in range(500)))
        assert replies == [b"hello"] * 500
        assert time.monotonic() - began < adjusted_for_load(5)

    run(test)


def test_96_connections_are_accepted_in_few_rounds() -> None:
    """Each of which takes some milliseconds."""

    async def test(sock: socket.socket, served: AcceptBalancer) -> None:
        port = sock.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(96)]
        turns = 0
        while len(served._open) + len(served._opening) < len(clients):
            turns += 1
            served._accept()
            await asyncio.sleep(0)
        assert turns < 30
        for client in clients:
            client.close()

    run(test)


def test_a_closed_balancer_accepts_no_connections() -> None:
    async def test(sock: socket.socket, served: AcceptBalancer) -> None:
        port = sock.getsockname()[1]
        await echoed(port)
        served.close()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))

    run(test)


def test_a_worker_accepts_one_connection_and_then_yields_to_others() -> None:
    """Of many at once it takes one, and the rest only in turns of a moment each."""

    async def test(sock: socket.socket, served: AcceptBalancer) -> None:
        port = sock.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        served._accept()
        assert len(served._opening) == 1
        await asyncio.sleep(0.5)
        assert len(served._open) == 8
        for client in clients:
            client.close()

    run(test)
