"""What a question reads, known before it runs, and how much one may."""

from dataclasses import dataclass

from common.errors import TooExpensive
from repo.engine.bitmaps import max_bytes

MAX_ROWS = 500_000
"""Of rollups, and sets that are joined: some seconds of a processor."""
MAX_BYTES = 256 * 2**20
"""Of their sets: they are in memory all at once."""
MAX_EDGE_EVENTS = 1_000_000
"""Events that edges cut off: their users are counted one by one."""
MAX_EVENTS = 20_000_000
"""Events of a question that has no rollups: all of a request's time."""

FEW_SETS = 200
"""So many are within BYTES, with up to ten million users."""
WINDOWS = 6
"""For which active users of each day are counted; a user enters each once a day, and leaves it."""

_JOINS = 8
"""For each day: two for each of three rolling windows, and one for each of two of the calendar."""
_SET_BYTES = 2**16
"""That join in the time that a row takes."""
_SHORTER_RANGE = "a shorter range, or a longer interval"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a question, or of a part of it."""

    rows: int = 0
    bytes: int = 0
    events: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.rows + other.rows, self.bytes + other.bytes, self.events + other.events)

    def check(self, allowed_events: int) -> None:
        """Raises: TooExpensive."""
        zone_hint = f"{_SHORTER_RANGE}, or the days of a zone that is kept ready"
        aligned_hint = f"{_SHORTER_RANGE}, or one that begins and ends with a quarter of an hour"
        for what, reads, allowed, cheaper in (
            ("rows of rollups", self.rows, MAX_ROWS, zone_hint),
            ("bytes of rollups", self.bytes, MAX_BYTES, zone_hint),
            ("events", self.events, allowed_events, aligned_hint),
        ):
            if reads > allowed:
                raise TooExpensive(what, reads, allowed, cheaper)


def windows_cost(days: int, longest_window: int, read_bytes: int, users: int) -> Cost:
    """Of the windows that end with each of so many days, the longest of which has `longest` days.

    `read_bytes` are those of the days' sets, and `users` how many there are.
    """
    union = min(read_bytes, max_bytes(users))
    return Cost(days * _JOINS * -(-max(union, 1) // _SET_BYTES), longest_window * union)
