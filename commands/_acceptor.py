"""Accept client connections: in turn with other worker processes, and within a limit.

Worker processes share one listening socket. uvloop accepts whatever waits there as soon as it
wakes up: of 16 connections that arrive together, one process may get all, and the others idle
while those stay open. Here a process accepts its share of the waiting connections, and pauses for
some milliseconds so that the other processes accept theirs.

At the limit, connections that wait for their clients are closed. Until there is room, new ones
wait in the queue of the socket, from which other processes accept.
"""

import asyncio
import errno
import logging
import math
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from heapq import nsmallest
from typing import Protocol

log = logging.getLogger("analytics.connections")

_PAUSE_UNIT_S = 0.001  # the resolution of the event loop's timers
_MAX_PAUSE_UNITS = 5
_CONNECTIONS_PER_UNIT = 2  # open connections that lengthen the pause by one unit

_FULL_PAUSE_S = 0.02

# Without a pause the loop would retry at once and for ever: the socket stays readable.
_OUT_OF_FILES_PAUSE_S = 0.2
_LOG_EVERY_S = 10.0
_OUT_OF_FILES_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Position and size of `tcpi_unacked` in the kernel's `struct tcp_info`.
_UNACKED_OFFSET = 24
_UNACKED_END = 28

# A new request has this time to arrive and to have its API key looked up before its connection may
# be closed, so that a burst of clients does not close its own connections.
_GRACE_S = 0.5

# Share of the limit to close at once: finding the oldest connection costs a pass over all of them.
_CLOSED_SHARE = 16


class Connection(Protocol):
    """A client connection; times are seconds on the clock of its event loop."""

    @property
    def waiting_since(self) -> float:
        """The time since which it has waited for its client or for the check of an API key.

        Infinity while a request with a valid key is answered.
        """

    @property
    def is_active(self) -> bool:
        """Whether a request is being received or answered."""

    def check(self, now: float) -> None:
        """Close the connection if it has waited for too long."""

    def close(self) -> None:
        """Close the connection now."""


class Acceptor:
    """Accepts the connections of a listening socket that `workers` processes share.

    `connections` are the open connections of this process, at most `limit`.
    """

    def __init__(
        self,
        sock: socket.socket,
        create_protocol: Callable[[], asyncio.Protocol],
        connections: set[Connection],
        *,
        limit: int,
        workers: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._create_protocol = create_protocol
        self._connections = connections
        self._limit = limit
        self._workers = workers
        self._round: asyncio.Task[None] | None = None
        self._is_closed = False
        self._next_log_at = 0.0
        sock.setblocking(False)
        self._wait()

    async def close(self) -> None:
        """Accept no more connections; those that were accepted are open afterwards."""
        self._is_closed = True
        self._loop.remove_reader(self._sock)
        if self._round:
            await self._round

    def _wait(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._sock, self._start_round)

    def _start_round(self) -> None:
        self._loop.remove_reader(self._sock)
        self._round = self._loop.create_task(self._accept_in_turn())

    async def _accept_in_turn(self) -> None:
        """Accept this process's share of the waiting connections, then let others accept."""
        try:
            await asyncio.sleep(await self._accept())
        finally:
            self._wait()

    async def _accept(self) -> float:
        """Accept and open connections. Returns the seconds to pause."""
        if len(self._connections) >= self._limit:
            self._make_room("the connection limit is reached")
            return _FULL_PAUSE_S
        try:
            accepted = self._accepted()
        except OSError:
            self._make_room("no file descriptor is left for a new connection")
            return _OUT_OF_FILES_PAUSE_S
        await asyncio.gather(*map(self._open, accepted))
        return self._pause_s() if accepted and self._workers > 1 else 0.0

    def _accepted(self) -> list[socket.socket]:
        """Accept this process's share, within its limit. Raises: OSError if no file is left."""
        share = max(1, math.ceil(queue_length(self._sock) / self._workers))
        accepted: list[socket.socket] = []
        try:
            while len(accepted) < min(share, self._limit - len(self._connections)):
                accepted.append(self._sock.accept()[0])
        except OSError as exc:
            if exc.errno in _OUT_OF_FILES_ERRNOS and not accepted:
                raise
            # Another process accepted it first, or the client has gone.
        return accepted

    async def _open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with suppress(OSError):  # the client has gone
            await self._loop.connect_accepted_socket(self._create_protocol, sock)

    def _pause_s(self) -> float:
        units = 1 + len(self._connections) // _CONNECTIONS_PER_UNIT
        return _PAUSE_UNIT_S * min(units, _MAX_PAUSE_UNITS)

    def _make_room(self, reason: str) -> None:
        """Close waiting connections; log the reason, at most once every 10 seconds."""
        now = self._loop.time()
        close_waiting(self._connections, self._limit, now)
        if now >= self._next_log_at:
            self._next_log_at = now + _LOG_EVERY_S
            log.warning(
                f"{reason}: closing connections that wait for their clients",
                extra={"connections": len(self._connections)},
            )


def queue_length(sock: socket.socket) -> int:
    """Return how many connections wait to be accepted; for a listening socket of Linux."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED_END)
    return int.from_bytes(info[_UNACKED_OFFSET:_UNACKED_END], sys.byteorder)


def close_waiting(connections: set[Connection], limit: int, now: float) -> None:
    """Close the connections that have waited longest, a sixteenth of the limit."""
    closable = [each for each in connections if _may_be_closed(each, now)]
    count = max(1, limit // _CLOSED_SHARE)
    for connection in nsmallest(count, closable, key=lambda each: each.waiting_since):
        connection.close()


def _may_be_closed(connection: Connection, now: float) -> bool:
    """Return whether it waits for its client, and a request has had its grace period."""
    return connection.waiting_since < (now - _GRACE_S if connection.is_active else math.inf)
