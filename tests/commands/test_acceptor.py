"""The connections of a worker: accepted in turn from a shared socket, and closed at the limit."""

import asyncio
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import pytest
import uvloop

from commands._acceptor import Acceptor, Connection, close_waiting, queue_length
from tests.wait_until import adjusted_for_load

LIMIT = 1000


class Echo(asyncio.Protocol):
    """A connection that never waits for its client, so it is not closed at the limit."""

    is_active = True
    waiting_since = math.inf

    def __init__(self, connections: set[Connection]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def check(self, now: float) -> None:
        pass

    def close(self) -> None:
        self._transport.abort()


class Worker:
    """One of `workers` processes that accept from a socket."""

    def __init__(self, sock: socket.socket, workers: int, limit: int) -> None:
        self.port: int = sock.getsockname()[1]
        self.sock = sock
        self.connections: set[Connection] = set()
        self.acceptor = Acceptor(
            sock, lambda: Echo(self.connections), self.connections, limit=limit, workers=workers
        )

    async def accept(self) -> int:
        """Accept once; returns how many connections were accepted."""
        before = len(self.connections)
        await self.pause()
        return len(self.connections) - before

    async def pause(self) -> float:
        """Accept once; returns the pause after it in seconds."""
        asyncio.get_running_loop().remove_reader(self.sock)
        return await self.acceptor._accept()


def run(test: Callable[[Worker], Awaitable[None]], workers: int = 2, limit: int = LIMIT) -> None:
    async def serve() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:
            worker = Worker(sock, workers, limit)
            await test(worker)
            await worker.acceptor.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


@contextmanager
def clients(port: int, count: int) -> Iterator[None]:
    """Connections that arrive together, while the event loop does not run."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


async def echoed(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    reply = await reader.readexactly(5)
    writer.close()
    await writer.wait_closed()
    return reply


def test_connections_one_after_another() -> None:
    async def test(worker: Worker) -> None:
        for _ in range(20):
            assert await echoed(worker.port) == b"hello"
            await asyncio.sleep(0.01)

    run(test)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_500_connections_at_once(workers: int) -> None:
    async def test(worker: Worker) -> None:
        began = time.monotonic()
        replies = await asyncio.gather(*(echoed(worker.port) for _ in range(500)))
        assert replies == [b"hello"] * 500
        assert time.monotonic() - began < adjusted_for_load(5)

    run(test, workers)


@pytest.mark.parametrize(("workers", "share"), [(1, 16), (2, 8), (4, 4), (100, 1)])
def test_a_worker_accepts_its_share_of_the_queue(workers: int, share: int) -> None:
    async def test(worker: Worker) -> None:
        with clients(worker.port, 16):
            assert queue_length(worker.sock) == 16
            assert await worker.accept() == share
            assert queue_length(worker.sock) == 16 - share

    run(test, workers)


def test_a_worker_pauses_after_accepting() -> None:
    """Longer, the more connections it has, but at most 5 ms; a single worker does not pause."""

    async def pause(worker: Worker) -> float:
        with clients(worker.port, 2):
            return await worker.pause()

    async def test(worker: Worker) -> None:
        assert await pause(worker) == 0.001
        worker.connections.update(Echo(worker.connections) for _ in range(4))
        assert await pause(worker) >= 0.003
        worker.connections.update(Echo(worker.connections) for _ in range(40))
        assert await pause(worker) == 0.005

    async def test_single(worker: Worker) -> None:
        assert await pause(worker) == 0

    run(test)
    run(test_single, workers=1)


def test_few_rounds_empty_a_long_queue() -> None:
    async def test(worker: Worker) -> None:
        with clients(worker.port, 96):
            rounds = 0
            while len(worker.connections) < 96:
                rounds += 1
                await worker.accept()
            assert rounds <= 8

    run(test)


def test_at_the_limit_connections_stay_in_the_queue() -> None:
    async def test(worker: Worker) -> None:
        with clients(worker.port, 10):
            assert await worker.accept() == 3
            assert await worker.accept() == 0
            assert queue_length(worker.sock) == 7

    run(test, workers=1, limit=3)


def test_a_closed_acceptor_leaves_connections_in_the_queue() -> None:
    """Other workers accept them."""

    async def test(worker: Worker) -> None:
        await worker.acceptor.close()
        with clients(worker.port, 3):
            await asyncio.sleep(0.05)
            assert queue_length(worker.sock) == 3

    run(test)


def test_accepted_connections_are_open_after_close() -> None:
    async def test(worker: Worker) -> None:
        with clients(worker.port, 4):
            worker.acceptor._start_round()
            await asyncio.sleep(0)
            await worker.acceptor.close()
            assert len(worker.connections) + queue_length(worker.sock) == 4
            assert len(worker.connections) == 2

    run(test)


class Client:
    """A connection that waits since an instant, and knows whether it was closed."""

    def __init__(self, waiting_since: float, *, is_active: bool = False) -> None:
        self.waiting_since = waiting_since
        self.is_active = is_active
        self.is_closed = False

    def check(self, now: float) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def closed(limit: int, *clients: Client) -> list[bool]:
    close_waiting(set(clients), limit, now=10.0)
    return [client.is_closed for client in clients]


def test_the_connection_that_waited_longest_is_closed() -> None:
    assert closed(3, Client(5.0), Client(2.0), Client(4.0)) == [False, True, False]


def test_a_sixteenth_of_the_limit_is_closed_at_once() -> None:
    assert closed(32, Client(3.0), Client(2.0), Client(1.0)) == [False, True, True]


def test_an_answer_in_progress_is_never_closed() -> None:
    assert closed(1, Client(math.inf, is_active=True)) == [False]


def test_a_new_request_has_half_a_second() -> None:
    assert closed(1, Client(9.6, is_active=True)) == [False]
    assert closed(1, Client(9.4, is_active=True)) == [True]
