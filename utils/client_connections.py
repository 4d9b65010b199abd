"""The client connections of one worker: how many there may be, and which are closed for others."""

import math
from heapq import nsmallest
from typing import Protocol

_GRACE_S = 0.5
_CLOSED_SHARE = 16


class Connection(Protocol):
    """What is known of one connection; times are those of its event loop, in seconds."""

    @property
    def waiting_since(self) -> float:
        """Since when it has waited for its client, or for a key to be found unknown; infinity while
        a request whose key is known is answered."""

    @property
    def is_active(self) -> bool:
        """Whether a request is on its way, or is answered."""

    def check(self, now: float) -> None:
        """Close it if it has waited for too long."""

    def close(self) -> None:
        """Close it now."""


class Connections:
    """At most `limit`. When there are so many, those that have waited longest are closed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[Connection, None] = {}  # in the order in which they came

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        self._open[connection] = None

    def discard(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def check(self, now: float) -> None:
        """Close what has waited for too long; called every second or so."""
        for connection in list(self._open):
            connection.check(now)

    def make_room(self, now: float) -> None:
        """Close a sixteenth at once: to look for the oldest costs as much as all of them."""
        closable = [each for each in self._open if self._may_be_closed(each, now)]
        for connection in nsmallest(
            max(1, self.limit // _CLOSED_SHARE), closable, key=lambda each: each.waiting_since
        ):
            connection.close()

    def _may_be_closed(self, connection: Connection, now: float) -> bool:
        """A request is given the time that it takes to arrive, and that most take in all."""
        since = connection.waiting_since
        return since < (now - _GRACE_S if connection.is_active else math.inf)
