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

from utils.client_connections import Connections

log = logging.getLogger("analytics.connections")

_PAUSE_UNIT_S = 0.001  # what timers of the loop can tell apart
_MAX_EXTRA_UNITS = 4  # moments more
_CONNECTIONS_PER_UNIT = 2  # connections for which one waits a moment more
_FULL_TURNS_LIMIT = 12  # turns in a row with somebody waiting, after which more are taken at once
_DOUBLE_EVERY_TURNS = 2  # turns
_MAX_ACCEPTS = 128  # at once
_CHECK_EVERY_S = 1.0
_FULL_PAUSE_S = 0.02  # until it is tried again to accept one
_OUT_OF_FILES_PAUSE_S = 0.2
_LOG_EVERY_S = 10.0
_OUT_OF_FILES_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


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
        return AcceptBalancer(self, protocol_factory, sock, self.connections, in_turn=self._in_turn)


class AcceptBalancer:
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
        self._next_log_at = 0.0
        self._full_turns = 0
        self._open: set[asyncio.BaseTransport] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._check_timer = loop.call_later(_CHECK_EVERY_S, self._check)
        sock.setblocking(False)
        loop.add_reader(sock, self._accept)

    def close(self) -> None:
        if self._sock.fileno() < 0:  # it is already
            return
        self._loop.remove_reader(self._sock)
        self._check_timer.cancel()
        if self._timer:
            self._timer.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Connections that were taken just before are opened."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _check(self) -> None:
        self._connections.check(self._loop.time())
        self._check_timer = self._loop.call_later(_CHECK_EVERY_S, self._check)

    def _accept(self) -> None:
        """More at once the longer others wait: turns are for bursts, and must hold up no crowd."""
        capacity = self._capacity()
        if capacity <= 0:
            self._pause(_FULL_PAUSE_S)
            return
        max_accepts = min(self._max_accepts(), capacity)
        try:
            accepted = sum(self._accept_one() for _ in range(max_accepts))
        except OSError:
            self._log_full("no file is left for a connection")
            self._connections.make_room(self._loop.time())
            self._pause(_OUT_OF_FILES_PAUSE_S)
            return
        self._full_turns = self._full_turns + 1 if accepted == max_accepts else 0
        if accepted and self._in_turn:
            self._pause(self._pause_s())

    def _capacity(self) -> int:
        """How many may be accepted now. Where none may, others are closed."""
        capacity = self._connections.limit - len(self._connections) - len(self._opening)
        if capacity <= 0:
            self._log_full("there are as many connections as there may be")
            self._connections.make_room(self._loop.time())
        return capacity

    def _log_full(self, reason: str) -> None:
        """One line now and then."""
        now = self._loop.time()
        if now >= self._next_log_at:
            self._next_log_at = now + _LOG_EVERY_S
            log.warning(
                f"{reason}: those that wait for their clients are closed",
                extra={"connections": len(self._connections)},
            )

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(seconds, self._resume)

    def _max_accepts(self) -> int:
        if not self._in_turn:
            return _MAX_ACCEPTS
        excess = max(0, self._full_turns - _FULL_TURNS_LIMIT)
        return min(1 << excess // _DOUBLE_EVERY_TURNS, _MAX_ACCEPTS)

    def _accept_one(self) -> bool:
        """Raises: OSError, when there is no file for it."""
        try:
            sock, _ = self._sock.accept()
        except OSError as exc:
            if exc.errno in _OUT_OF_FILES_ERRNOS:
                raise
            return False  # another one was first, or the client is gone already
        task = self._loop.create_task(self._open_connection(sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open_connection(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        transport, _ = await self._loop.connect_accepted_socket(self._protocol_factory, sock)
        self._open.add(transport)

    def _pause_s(self) -> float:
        self._open = {transport for transport in self._open if not transport.is_closing()}
        return _PAUSE_UNIT_S * (1 + min(len(self._open) // _CONNECTIONS_PER_UNIT, _MAX_EXTRA_UNITS))

    def _resume(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._accept)
