"""Balance new connections between worker processes that share a listening socket, and limit them.

Without it, an event loop accepts every connection in the socket's queue when it wakes up: of 16
connections that arrive together, one process may get all, and the others idle while those stay
open. Here a process accepts one connection and then pauses for some milliseconds, longer the more
connections it has, so that the other processes accept the next ones.

A process at its connection limit stops accepting. New connections go to other processes or stay in
the socket's queue until the process has closed some that wait for their clients.
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

_PAUSE_UNIT_S = 0.001  # the resolution of the event loop's timers
_MAX_EXTRA_UNITS = 4  # so a pause lasts 1 to 5 units
_CONNECTIONS_PER_UNIT = 2  # open connections that lengthen the pause by one unit

# Pauses are meant for bursts, and must not delay a long queue: after 12 turns in a row that used
# all their accepts, each second turn doubles their number. With one more accept after each 16
# turns, the last of 128 simultaneous connections waited 250 ms; now it waits about 50 ms.
_FULL_TURNS_LIMIT = 12
_DOUBLE_EVERY_TURNS = 2
_MAX_ACCEPTS = 128

_CHECK_EVERY_S = 1.0
_FULL_PAUSE_S = 0.02

# Without a pause the loop would retry at once and for ever: the socket stays readable.
_OUT_OF_FILES_PAUSE_S = 0.2
_LOG_EVERY_S = 10.0
_OUT_OF_FILES_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Loop(uvloop.Loop):
    """An event loop whose servers accept at most `limit` connections at a time.

    This holds for servers on a socket that the caller passes, without TLS; others are uvloop's.
    With `in_turn`, other processes share the socket, and the loop pauses between accepts.
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
    """A server that accepts the connections of one socket; closed like an `asyncio.Server`."""

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
        if self._sock.fileno() < 0:  # closed before
            return
        self._loop.remove_reader(self._sock)
        self._check_timer.cancel()
        if self._timer:
            self._timer.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Wait until the connections accepted before `close` are open."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _check(self) -> None:
        self._connections.check(self._loop.time())
        self._check_timer = self._loop.call_later(_CHECK_EVERY_S, self._check)

    def _accept(self) -> None:
        """Accept one turn of connections, and pause if other processes share the socket."""
        capacity = self._capacity()
        if capacity <= 0:
            self._pause(_FULL_PAUSE_S)
            return
        max_accepts = min(self._max_accepts(), capacity)
        try:
            accepted = sum(self._accept_one() for _ in range(max_accepts))
        except OSError:
            self._log_full("no file descriptor is left for a new connection")
            self._connections.make_room(self._loop.time())
            self._pause(_OUT_OF_FILES_PAUSE_S)
            return
        self._full_turns = self._full_turns + 1 if accepted == max_accepts else 0
        if accepted and self._in_turn:
            self._pause(self._pause_s())

    def _capacity(self) -> int:
        """Return how many connections may be accepted now; if none, close waiting ones."""
        capacity = self._connections.limit - len(self._connections) - len(self._opening)
        if capacity <= 0:
            self._log_full("the connection limit is reached")
            self._connections.make_room(self._loop.time())
        return capacity

    def _log_full(self, reason: str) -> None:
        """Log a warning, at most one every 10 seconds."""
        now = self._loop.time()
        if now >= self._next_log_at:
            self._next_log_at = now + _LOG_EVERY_S
            log.warning(
                f"{reason}: closing connections that wait for their clients",
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
        """Return whether a connection was accepted. Raises: OSError without a free descriptor."""
        try:
            sock, _ = self._sock.accept()
        except OSError as exc:
            if exc.errno in _OUT_OF_FILES_ERRNOS:
                raise
            return False  # another process accepted it first, or the client has gone
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
