"""Read events day by day, and find the days that have changed since an earlier snapshot."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from repo.database_identity import read_database_state
from repo.statements import statements

SQL = statements("export")

RIGHTS_MESSAGE = "this role may not read all events"

EventRow = tuple[str, str | None, str, int, str]
"""The event_id, the user, the name, microseconds since 1970, and the properties as JSON."""


class DatabaseDays(NamedTuple):
    """The UTC days that have events, in one snapshot."""

    database: str
    """The identity of the database."""
    snapshot: str
    counts: dict[date, int]
    """The number of events by day."""
    new: set[date]
    """Days with events that the earlier snapshot does not see."""


class ExportRepo:
    """Reads events; `conn` must be in autocommit. All methods raise DatabaseUnavailable."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def get_days(self, since: str | None) -> DatabaseDays:
        """Return the days of all events; `since` is the earlier snapshot, None if there is none."""
        with self._snapshot() as cur:
            cur.execute(SQL["export_snapshot"])
            (snapshot,) = cur.fetchone() or ("",)
            cur.execute(SQL["export_counts"])
            counts: dict[date, int] = dict(cur)
            new = set(counts) if since is None else _new_days(cur, since)
            return DatabaseDays(read_database_state(cur).identity, snapshot, counts, new)

    def read_day(self, day: date) -> Iterator[list[EventRow]]:
        """Yield the events of a UTC day by time and id, in one snapshot and in small lists."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        with self._snapshot() as cur:
            cur.execute(SQL["export_declare"], {"start": start, "end": start + timedelta(days=1)})
            while True:
                cur.execute(SQL["export_fetch"])
                rows = cur.fetchall()
                if not rows:
                    return
                yield rows

    @contextmanager
    def _snapshot(self) -> Iterator[cursor]:
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["export_begin"])
            try:
                yield cur
            finally:
                if not self._conn.closed:
                    cur.execute("rollback")


def _new_days(cur: cursor, since: str) -> set[date]:
    cur.execute(SQL["export_new_days"], {"snapshot": since})
    return {day for (day,) in cur}
