"""Values that `pg_stat_activity` does not show.

It shows the beginning of a session's last statement, also long after it is over, and psycopg2
writes values into statements. Behind enough blanks a value is beyond what is shown, for as long as
the statement runs and after.
"""

from typing import Any
from weakref import WeakKeyDictionary

from psycopg2.extensions import adapt, connection

_MAX_BLANKS = 65_536
"""Blanks; a server that shows more shows these values."""

_visible_sizes: WeakKeyDictionary[connection, int] = WeakKeyDictionary()


class Hidden:
    """A value of a statement. Others that stand after it are not shown either."""

    def __init__(self, value: Any) -> None:
        self._value = adapt(value)
        self._blanks = b""

    def __conform__(self, _: object) -> "Hidden":
        """How psycopg2 asks for what writes a value."""
        return self

    def prepare(self, conn: connection) -> None:
        self._blanks = b" " * min(_visible_bytes(conn), _MAX_BLANKS)
        if hasattr(self._value, "prepare"):
            self._value.prepare(conn)

    def getquoted(self) -> bytes:
        quoted: bytes = self._value.getquoted()
        return self._blanks + quoted


def _visible_bytes(conn: connection) -> int:
    """How much of a statement this server shows, which is asked once for each connection."""
    if conn not in _visible_sizes:
        with conn.cursor() as cur:
            cur.execute("select pg_size_bytes(current_setting('track_activity_query_size'))")
            (_visible_sizes[conn],) = cur.fetchone() or (_MAX_BLANKS,)
    return _visible_sizes[conn]
