"""How events come into the table."""

import io
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.errors import instant
from config.database import DatabaseUnavailable
from repo.statements import statements

SQL = statements("ingest")

# What COPY's text form reads as something else.
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_REASONS = {
    "events_user_id_is_short": "user_id must be at most 256 bytes long",
    "events_event_name_is_short": "event_name must be 1 to 200 bytes long",
    "events_occurred_at_is_of_these_years": "occurred_at must be within the years 2000 to 2099",
    "events_properties_is_a_small_object": "properties must be an object of less than 64 kB",
}
_REFUSALS = (psycopg2.DataError, psycopg2.IntegrityError, errors.StatementTooComplex)


class Event(NamedTuple):
    """One row, as text: what PostgreSQL reads is what was given, long numbers included."""

    event_id: str
    user_id: str
    event_name: str
    occurred_at: str
    properties: str


class EventsRefused(Exception):
    """PostgreSQL takes none of the batch, since one event of it cannot be stored."""


class EventsExpired(EventsRefused):
    """Some of the batch occurred before what is still kept, and none of it is stored.

    `places` tell which, counted from 0.
    """

    def __init__(self, takes_from: datetime, places: Collection[int]) -> None:
        super().__init__(
            f"occurred_at must not be before {instant(takes_from)}, "
            "up to where events are no longer kept"
        )
        self.places = frozenset(places)


class IngestRepo:
    """Writes batches; each is one transaction."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def insert(self, events: Iterable[Event]) -> int:
        """Store those whose event_id is new, and tell how many.

        Raises: EventsExpired, EventsRefused, DatabaseUnavailable.
        """
        text = io.StringIO("".join(map(_line, events)))
        try:
            with self._conn, self._conn.cursor() as cur:
                cur.execute(SQL["ingest_staging"])
                cur.copy_expert(SQL["ingest_copy"], text)
                _refuse_expired(cur)
                cur.execute(SQL["ingest_insert"])
                return int(cur.rowcount)
        except _REFUSALS as exc:
            raise EventsRefused(_reason(exc)) from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            raise DatabaseUnavailable(f"PostgreSQL went away: {exc}".strip()) from exc

    def is_empty(self) -> bool:
        with self._conn, self._conn.cursor() as cur:
            cur.execute(SQL["ingest_is_empty"])
            return cur.fetchone() == (True,)


def _refuse_expired(cur: cursor) -> None:
    """Raises: EventsExpired."""
    cur.execute(SQL["ingest_expired"])
    found = cur.fetchall()
    if found:
        raise EventsExpired(found[0][0], [place for _, place in found])


def _line(event: Event) -> str:
    return "\t".join(map(_escaped, event)) + "\n"


def _escaped(text: str) -> str:
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def _reason(error: psycopg2.Error) -> str:
    constraint = error.diag.constraint_name or ""
    return _REASONS.get(constraint) or error.diag.message_primary or "cannot be stored"
