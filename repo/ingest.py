"""How events come into the table."""

import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import in_transaction, translated
from common.errors import instant
from config.database import Connection, Cursor
from config.failures import DatabaseUnavailable
from repo.statements import statements
from repo.transactions import transaction
from utils.postgres import hang_up

SQL = statements("ingest")

# What COPY's text form reads as something else.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_REASONS = {
    "events_user_id_is_short": "user_id must be at most 256 bytes long",
    "events_event_name_is_short": "event_name must be 1 to 200 bytes long",
    "events_occurred_at_is_of_these_years": "occurred_at must be within the years 2000 to 2099",
    "events_properties_is_a_small_object": "properties must be an object of less than 64 kB",
}
_REFUSALS = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    errors.RaiseException,
    errors.StatementTooComplex,
)
_AT_A_TIME = 65_536  # bytes that are handed to COPY
_PLACE = re.compile(r"COPY\D+(\d+)")  # in any of PostgreSQL's languages


class Event(NamedTuple):
    """One row, as text: what PostgreSQL reads is what was given, long numbers included."""

    event_id: str
    user_id: str
    event_name: str
    occurred_at: str
    properties: str


class Inserted(NamedTuple):
    """What became of a batch; the other events were there already."""

    inserted: int
    suppressed: int
    """Of users who were erased, and whose events are not to come back."""


class EventsRefused(Exception):
    """PostgreSQL takes none of the batch, since one event of it cannot be stored."""

    known: str | None = None
    """The reason in words of ours; PostgreSQL's may repeat what was given."""
    place: int | None = None
    """Of the event in the batch, where it was found while the batch was read."""


class Refused(NamedTuple):
    """An event that PostgreSQL does not take: its place in the batch, and why."""

    place: int
    reason: str | None


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
        self._are_new = True
        """Whether all of the last batch were: so may be those of the next."""

    def insert(self, rows: Sequence[str]) -> Inserted:
        """Store those whose event_id is new, and tell how many; `rows` are of `as_rows`.

        Raises: EventsExpired, EventsRefused, OutcomeUnknown, DatabaseUnavailable.
        """
        rights = "this role may not store events"
        at_stake = f"up to {len(rows):,} more events may be stored"
        with translated(rights), _refusals(), transaction(self._conn, at_stake) as cur:
            if self._are_new and not _has_long_list(cur) and _copied(cur, sorted(rows)):
                return Inserted(len(rows), 0)
            stored = _write(cur, rows)
        self._are_new = stored.inserted == len(rows)
        return stored

    def hang_up(self) -> None:
        """End what `insert` does in another thread; nothing of its batch is stored then, unless it
        was just being committed.
        """
        hang_up(self._conn)

    def is_empty(self) -> bool:
        with self._conn, self._conn.cursor() as cur:
            cur.execute(SQL["ingest_is_empty"])
            return cur.fetchone() == (True,)


class SentEventsRepo:
    """Writes what one request sent: all of it in one transaction, or nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._tries: list[str] = []

    @in_transaction
    def insert(self, cur: Cursor, rows: Sequence[str]) -> Inserted:
        """Store the events whose event_id is new; `rows` are of `as_rows`.

        A commit whose answer was lost may have stored them: what that try did counts as well.

        Raises: EventsExpired, EventsRefused.
        """
        with _refusals():
            stored = _write(cur, rows)
        if self._tries:
            stored = stored._replace(inserted=stored.inserted + self._stored_before(cur))
        cur.execute(SQL["ingest_own_id"])
        self._tries += cur.fetchone() or ()
        return stored

    def get_refused(self, events: Sequence[Event], most: int) -> list[Refused]:
        """Which of them PostgreSQL does not take, so many at most; nothing is stored."""
        rows = as_rows(events)
        found: list[Refused] = []
        first = 0
        while first < len(rows) and len(found) < most:
            refused = self._first_refused(rows[first:])
            if refused is None:
                break
            found.append(refused._replace(place=first + refused.place))
            first += refused.place + 1
        return found

    def _first_refused(self, rows: Sequence[str]) -> Refused | None:
        try:
            self._check(rows)
        except EventsRefused as exc:
            return None if exc.place is None else Refused(exc.place, exc.known)
        return None

    @in_transaction
    def _check(self, cur: Cursor, rows: Sequence[str]) -> None:
        with _refusals():
            cur.execute(SQL["ingest_checked"])
            _copy(cur, "ingest_check", rows)

    def _stored_before(self, cur: Cursor) -> int:
        cur.execute(SQL["ingest_stored_before"], (self._tries,))
        (count,) = cur.fetchone() or ()
        return int(count)


def _copied(cur: cursor, rows: Sequence[str]) -> bool:
    """Store them if all are new and none is left out by a trigger, and tell whether they are.

    In the order of ids, so that two writers never wait for each other.
    """
    cur.execute("savepoint before")
    try:
        _copy(cur, "ingest_copy", rows)
        if cur.rowcount == len(rows):
            return True
    except (errors.UniqueViolation, errors.DeadlockDetected):
        pass
    cur.execute("rollback to savepoint before")
    return False


def _write(cur: cursor, rows: Sequence[str]) -> Inserted:
    """Raises: EventsExpired."""
    cur.execute(SQL["ingest_staging"])
    _copy(cur, "ingest_stage", rows)
    _refuse_expired(cur)
    cur.execute(SQL["ingest_insert"])
    inserted = cur.rowcount
    suppressed = _suppressed(cur) if inserted < len(rows) else 0
    if suppressed:
        cur.execute(SQL["ingest_leave_out"])
    return Inserted(inserted, suppressed)


def _has_long_list(cur: cursor) -> bool:
    """Then looking up a staged batch costs less than the trigger does."""
    cur.execute(SQL["ingest_has_long_list"])
    return cur.fetchone() == (True,)


def _copy(cur: cursor, name: str, rows: Sequence[str]) -> None:
    cur.copy_expert(SQL[name], io.BytesIO("\n".join((*rows, "")).encode()), _AT_A_TIME)


def _refusal(error: psycopg2.Error) -> EventsRefused:
    known = _REASONS.get(error.diag.constraint_name or "")
    refused = EventsRefused(known or error.diag.message_primary or "cannot be stored")
    refused.known = known
    if found := _PLACE.search(error.diag.context or ""):
        refused.place = int(found[1]) - 1
    return refused


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except _REFUSALS as exc:
        raise _refusal(exc) from exc
    except errors.ReadOnlySqlTransaction as exc:  # a standby, or one that was made read-only
        raise DatabaseUnavailable from exc


def as_rows(events: Iterable[Event]) -> list[str]:
    """Events as COPY reads them."""
    return rows_of(zip(*events, strict=True))


def rows_of(columns: Iterable[Sequence[str]]) -> list[str]:
    """Events as COPY reads them, of their columns, in the order of the fields of Event."""
    return list(map("\t".join, zip(*map(_escaped, columns), strict=True)))


def _refuse_expired(cur: cursor) -> None:
    """Raises: EventsExpired."""
    cur.execute(SQL["ingest_expired"])
    found = cur.fetchall()
    if found:
        raise EventsExpired(found[0][0], [place for _, place in found])


def _suppressed(cur: cursor) -> int:
    """How many of the staged batch."""
    cur.execute(SQL["ingest_suppressed"])
    (count,) = cur.fetchone() or (0,)
    return int(count)


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    whole = "".join(texts)
    if whole.isprintable() and "\\" not in whole:
        return texts
    return [_escape(text) for text in texts]


def _escape(text: str) -> str:
    """`str.translate` takes ten times as long."""
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text
