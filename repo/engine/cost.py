"""The cost of a query, known before it runs, and the limits."""

from dataclasses import dataclass

from common.errors import TooExpensive
from repo.engine.bitmaps import max_bytes

# Rows of rollups, and set operations: some seconds of processor time.
MAX_ROWS = 500_000

# Bytes of the sets of users, which are in memory all at once.
MAX_BYTES = 256 * 2**20

# Events at the edges of ranges, which are read one by one.
MAX_EDGE_EVENTS = 1_000_000

# Events read by a query without rollups, which takes all of a request's time.
MAX_EVENTS = 20_000_000

# Rows of columns: some seconds of processor time.
MAX_COLUMN_ROWS = 500_000_000

# A row of a column takes about as much less time than a row of rollups or an event.
_COLUMN_ROWS_PER_ROW = 500

# This many sets are within MAX_BYTES, with up to ten million users.
FEW_SETS = 200

# Windows of active users: three fixed rolling ones, that of the parameter, the week and the month.
WINDOWS = 6

# Set operations for each day: two for each of three rolling windows, one for each of two calendar
# windows, and one for new users. Sets of 64 kB are joined in the time that reading a row takes.
_JOINS = 9
_SET_BYTES = 2**16
_SHORTER_RANGE = "a shorter range, a longer interval"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a query or a part of it: rows and bytes of rollups, events, rows of columns."""

    rows: int = 0
    bytes: int = 0
    events: int = 0
    column_rows: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.rows + other.rows,
            self.bytes + other.bytes,
            self.events + other.events,
            self.column_rows + other.column_rows,
        )

    @property
    def weight(self) -> int:
        """A measure of what is read, to compare costs, in rows."""
        return self.rows + self.events + self.column_rows // _COLUMN_ROWS_PER_ROW

    def check(self, allowed_events: int) -> None:
        """Compare the cost with the limits. Raises: TooExpensive."""
        zone_hint = f"{_SHORTER_RANGE}, or a time zone of ANALYTICS_TIME_ZONES"
        aligned_hint = (
            f"{_SHORTER_RANGE}, or a range that begins and ends with a quarter of an hour"
        )
        for what, reads, allowed, cheaper in (
            ("rows of rollups", self.rows, MAX_ROWS, zone_hint),
            ("bytes of rollups", self.bytes, MAX_BYTES, zone_hint),
            ("events", self.events, allowed_events, aligned_hint),
            ("rows of columns", self.column_rows, MAX_COLUMN_ROWS, "a shorter range"),
        ):
            if reads > allowed:
                raise TooExpensive(what, reads, allowed, cheaper)


def windows_cost(days: int, longest_window: int, read_bytes: int, users: int) -> Cost:
    """Return the cost of counting active users in the windows that end with each of `days` days.

    `longest_window` is in days, `read_bytes` the size of the days' sets, `users` the number of all
    users.
    """
    union = min(read_bytes, max_bytes(users))
    return Cost(days * _JOINS * -(-max(union, 1) // _SET_BYTES), longest_window * union)
