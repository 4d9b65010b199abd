"""Hide values of statements from `pg_stat_activity`.

That view shows the first `track_activity_query_size` bytes of a session's last statement, long
after it has ended, and psycopg2 writes values into the text of statements. Enough blanks before a
value move it beyond the part that is shown.
"""

from typing import Any
from weakref import WeakKeyDictionary

from psycopg2.extensions import adapt, connection

_MAX_BLANKS = 65_536  # a server that is set to show more does show the values

_visible_sizes: WeakKeyDictionary[connection, int] = WeakKeyDictionary()


class Hidden:
    """A value of a statement that is hidden, together with all text after it."""

    def __init__(self, value: Any) -> None:
        self._value = adapt(value)
        self._blanks = b""

    def __conform__(self, _: object) -> "Hidden":
        """Return the adapter of the value, in psycopg2's protocol."""
        return self

    def prepare(self, conn: connection) -> None:
        self._blanks = b" " * min(_visible_bytes(conn), _MAX_BLANKS)
        if hasattr(self._value, "prepare"):
            self._value.prepare(conn)

    def getquoted(self) -> bytes:
        quoted: bytes = self._value.getquoted()
        return self._blanks + quoted


def _visible_bytes(conn: connection) -> int:
    """Return how many bytes of a statement the server shows, read once for each connection."""
    if conn not in _visible_sizes:
        with conn.cursor() as cur:
            cur.execute("select pg_size_bytes(current_setting('track_activity_query_size'))")
            (_visible_sizes[conn],) = cur.fetchone() or (_MAX_BLANKS,)
    return _visible_sizes[conn]
