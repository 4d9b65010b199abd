"""The client connections of one worker process, their limit, and which to close at the limit."""

import math
from heapq import nsmallest
from typing import Protocol

# A new request has this time to arrive and to have its API key looked up before its connection may
# be closed, so that a burst of clients does not close its own connections.
_GRACE_S = 0.5

# Share of the limit to close at once: finding the oldest connection costs a pass over all of them.
_CLOSED_SHARE = 16


class Connection(Protocol):
    """A client connection; times are seconds on the clock of its event loop."""

    @property
    def waiting_since(self) -> float:
        """When it began to wait for its client or for the check of an API key.

        Infinity while a request with a valid key is answered.
        """

    @property
    def is_active(self) -> bool:
        """Whether a request is being received or answered."""

    def check(self, now: float) -> None:
        """Close the connection if it has waited for too long."""

    def close(self) -> None:
        """Close the connection now."""


class Connections:
    """The open connections of a worker process, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[Connection, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        self._open[connection] = None

    def discard(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def check(self, now: float) -> None:
        """Close connections that have waited for too long; called about every second."""
        for connection in list(self._open):
            connection.check(now)

    def make_room(self, now: float) -> None:
        """Close the connections that have waited longest, a sixteenth of the limit."""
        closable = [each for each in self._open if self._may_be_closed(each, now)]
        for connection in nsmallest(
            max(1, self.limit // _CLOSED_SHARE), closable, key=lambda each: each.waiting_since
        ):
            connection.close()

    def _may_be_closed(self, connection: Connection, now: float) -> bool:
        """Return whether it waits for its client, and a request has had its grace period."""
        since = connection.waiting_since
        return since < (now - _GRACE_S if connection.is_active else math.inf)
