"""How events come into the table."""

import io
from collections.abc import Iterable
from typing import NamedTuple

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection

from config.database import DatabaseUnavailable, RightsMissing
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


class IngestRepo:
    """Writes batches; each is one transaction."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def insert(self, events: Iterable[Event]) -> int:
        """Store those whose event_id is new, and tell how many.

        Raises: EventsRefused, DatabaseUnavailable.
        """
        text = io.StringIO("".join(map(_line, events)))
        try:
            with self._conn, self._conn.cursor() as cur:
                cur.execute(SQL["ingest_staging"])
                cur.copy_expert(SQL["ingest_copy"], text)
                cur.execute(SQL["ingest_insert"])
                return int(cur.rowcount)
        except _REFUSALS as exc:
            raise EventsRefused(_reason(exc)) from exc
        except errors.InsufficientPrivilege as exc:
            raise RightsMissing(f"this role may not store events: {exc}".strip()) from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            raise DatabaseUnavailable(f"PostgreSQL went away: {exc}".strip()) from exc

    def is_empty(self) -> bool:
        with self._conn, self._conn.cursor() as cur:
            cur.execute(SQL["ingest_is_empty"])
            return cur.fetchone() == (True,)


def _line(event: Event) -> str:
    return "\t".join(map(_escaped, event)) + "\n"


def _escaped(text: str) -> str:
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def _reason(error: psycopg2.Error) -> str:
    constraint = error.diag.constraint_name or ""
    return _REASONS.get(constraint) or error.diag.message_primary or "cannot be stored"
