"""Processes that share a listening socket take connections in turn.

Each of them is woken for a connection, and who comes first takes all that wait: of 16 that come at
once one process may get every one, and the others idle for as long as these are kept. Here who took
one lets the others go first for a moment, longer the more connections it has.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvloop

_MOMENT_S = 0.001  # what timers of the loop can tell apart
_LONGEST = 4  # moments more
_MANY = 2  # connections for which one waits a moment more
_PATIENCE = 12  # turns in a row with somebody waiting, after which more are taken at once
_TWICE_EVERY = 2  # turns
_MOST = 128  # at once


class Loop(uvloop.Loop):
    """An event loop whose servers, on sockets that are given, take turns."""

    async def create_server(self, protocol_factory: Any, *arguments: Any, **options: Any) -> Any:
        sock = options.get("sock")
        if sock is None or options.get("ssl"):
            return await super().create_server(protocol_factory, *arguments, **options)
        sock.listen(options.get("backlog", 100))
        return Turns(self, protocol_factory, sock)


class Turns:
    """What takes the connections of a socket; it is closed like a server of asyncio."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol_factory: Callable[[], asyncio.Protocol],
        sock: socket.socket,
    ) -> None:
        self.sockets = (sock,)
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._sock = sock
        self._in_a_row = 0
        self._open: set[asyncio.BaseTransport] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        loop.add_reader(sock, self._take)

    def close(self) -> None:
        if self._sock.fileno() < 0:  # it is already
            return
        self._loop.remove_reader(self._sock)
        if self._timer:
            self._timer.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Connections that were taken just before are opened."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _take(self) -> None:
        """More at once the longer others wait: turns are for bursts, and must hold up no crowd."""
        at_once = self._at_once()
        taken = sum(self._take_one() for _ in range(at_once))
        self._in_a_row = self._in_a_row + 1 if taken == at_once else 0
        if taken:
            self._loop.remove_reader(self._sock)
            self._timer = self._loop.call_later(self._pause_s(), self._listen)

    def _at_once(self) -> int:
        beyond = max(0, self._in_a_row - _PATIENCE)
        return min(1 << beyond // _TWICE_EVERY, _MOST)

    def _take_one(self) -> bool:
        try:
            taken, _ = self._sock.accept()
        except OSError:  # another one was first, or the client is gone already
            return False
        task = self._loop.create_task(self._opened(taken))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _opened(self, taken: socket.socket) -> None:
        taken.setblocking(False)
        transport, _ = await self._loop.connect_accepted_socket(self._protocol_factory, taken)
        self._open.add(transport)

    def _pause_s(self) -> float:
        self._open = {transport for transport in self._open if not transport.is_closing()}
        return _MOMENT_S * (1 + min(len(self._open) // _MANY, _LONGEST))

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._take)
