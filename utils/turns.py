"""Processes that share a listening socket take connections in turn, and no more than they may.

Each of them is woken for a connection, and who comes first takes all that wait: of 16 that come at
once one process may get every one, and the others idle for as long as these are kept. Here who took
one lets the others go first for a moment, longer the more connections it has.

A process that has as many connections as it may have leaves new ones to the others, or in the
socket's queue, until it could close one that waits for its client.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from utils.connections import Connections

log = logging.getLogger("analytics.connections")

_MOMENT_S = 0.001  # what timers of the loop can tell apart
_LONGEST = 4  # moments more
_MANY = 2  # connections for which one waits a moment more
_PATIENCE = 12  # turns in a row with somebody waiting, after which more are taken at once
_TWICE_EVERY = 2  # turns
_MOST = 128  # at once
_CHECK_EVERY_S = 1.0
_FULL_S = 0.02  # until it is tried again to accept one
_OUT_OF_FILES_S = 0.2
_LOG_EVERY_S = 10.0
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Loop(uvloop.Loop):
    """An event loop whose servers, on sockets that are given, accept at most `limit` connections.

    `in_turn`: other processes accept from the same socket.
    """

    def __init__(self, limit: int, *, in_turn: bool) -> None:
        self.connections = Connections(limit)
        self._in_turn = in_turn

    async def create_server(self, protocol_factory: Any, *arguments: Any, **options: Any) -> Any:
        sock = options.get("sock")
        if sock is None or options.get("ssl"):
            return await super().create_server(protocol_factory, *arguments, **options)
        sock.listen(options.get("backlog", 100))
        return Turns(self, protocol_factory, sock, self.connections, in_turn=self._in_turn)


class Turns:
    """What takes the connections of a socket; it is closed like a server of asyncio."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol_factory: Callable[[], asyncio.Protocol],
        sock: socket.socket,
        connections: Connections,
        *,
        in_turn: bool = True,
    ) -> None:
        self.sockets = (sock,)
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._sock = sock
        self._connections = connections
        self._in_turn = in_turn
        self._log_at = 0.0
        self._in_a_row = 0
        self._open: set[asyncio.BaseTransport] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._checking = loop.call_later(_CHECK_EVERY_S, self._check)
        sock.setblocking(False)
        loop.add_reader(sock, self._take)

    def close(self) -> None:
        if self._sock.fileno() < 0:  # it is already
            return
        self._loop.remove_reader(self._sock)
        self._checking.cancel()
        if self._timer:
            self._timer.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Connections that were taken just before are opened."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _check(self) -> None:
        self._connections.check(self._loop.time())
        self._checking = self._loop.call_later(_CHECK_EVERY_S, self._check)

    def _take(self) -> None:
        """More at once the longer others wait: turns are for bursts, and must hold up no crowd."""
        room = self._room()
        if room <= 0:
            self._pause(_FULL_S)
            return
        at_once = min(self._at_once(), room)
        try:
            taken = sum(self._take_one() for _ in range(at_once))
        except OSError:
            self._say_full("no file is left for a connection")
            self._connections.make_room(self._loop.time())
            self._pause(_OUT_OF_FILES_S)
            return
        self._in_a_row = self._in_a_row + 1 if taken == at_once else 0
        if taken and self._in_turn:
            self._pause(self._pause_s())

    def _room(self) -> int:
        """How many may be accepted now. Where none may, others are closed."""
        room = self._connections.limit - len(self._connections) - len(self._opening)
        if room <= 0:
            self._say_full("there are as many connections as there may be")
            self._connections.make_room(self._loop.time())
        return room

    def _say_full(self, reason: str) -> None:
        """One line now and then."""
        now = self._loop.time()
        if now >= self._log_at:
            self._log_at = now + _LOG_EVERY_S
            log.warning(
                f"{reason}: those that wait for their clients are closed",
                extra={"connections": len(self._connections)},
            )

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(seconds, self._listen)

    def _at_once(self) -> int:
        if not self._in_turn:
            return _MOST
        beyond = max(0, self._in_a_row - _PATIENCE)
        return min(1 << beyond // _TWICE_EVERY, _MOST)

    def _take_one(self) -> bool:
        """Raises: OSError, when there is no file for it."""
        try:
            taken, _ = self._sock.accept()
        except OSError as exc:
            if exc.errno in _OUT_OF_FILES:
                raise
            return False  # another one was first, or the client is gone already
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
