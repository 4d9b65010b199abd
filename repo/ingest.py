"""How events come into the table."""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import in_transaction, translate_errors
from config.database import Connection, Cursor
from repo.rejected_events import (
    REASONS,
    EventsExpired,
    EventsRefused,
    Refusals,
    RefusedEvent,
    translate_refusals,
)
from repo.statements import statements
from repo.transactions import transaction
from utils.postgres import abort_connection

SQL = statements("ingest")

# What COPY's text form reads as something else.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_COPY_CHUNK_BYTES = 65_536  # bytes that are handed to COPY
_MAX_CHECKED_CHARS = (
    2**23
)  # characters of a batch that is refused, until nothing else is looked for


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


class IngestRepo:
    """Writes batches; each is one transaction."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn
        self._is_all_new = True
        """Whether all of the last batch were: so may be those of the next."""

    def insert(self, rows: Sequence[str]) -> Inserted:
        """Store those whose event_id is new, and tell how many; `rows` are of `as_rows`.

        Raises: EventsExpired, EventsRefused, OutcomeUnknown, DatabaseUnavailable.
        """
        rights = "this role may not store events"
        at_stake = f"up to {len(rows):,} more events may be stored"
        with (
            translate_errors(rights),
            translate_refusals(),
            transaction(self._conn, at_stake) as cur,
        ):
            if self._is_all_new and not _has_long_list(cur) and _try_copy(cur, sorted(rows)):
                return Inserted(len(rows), 0)
            stored = _write(cur, rows)
        self._is_all_new = stored.inserted == len(rows)
        return stored

    def hang_up(self) -> None:
        """End what `insert` does in another thread; nothing of its batch is stored then, unless it
        was just being committed.
        """
        abort_connection(self._conn)

    def is_empty(self) -> bool:
        with self._conn, self._conn.cursor() as cur:
            cur.execute(SQL["ingest_is_empty"])
            return cur.fetchone() == (True,)


class HttpEventsRepo:
    """Writes what one request sent: all of it in one transaction, or nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._attempt_ids: list[str] = []

    @in_transaction
    def insert(self, cur: Cursor, rows: Sequence[str]) -> Inserted:
        """Store the events whose event_id is new; `rows` are of `as_rows`.

        A commit whose answer was lost may have stored them: what that try did counts as well.

        Raises: EventsExpired, EventsRefused.
        """
        with translate_refusals():
            stored = _write(cur, rows)
        if self._attempt_ids:
            stored = stored._replace(inserted=stored.inserted + self._count_stored_before(cur))
        cur.execute(SQL["ingest_own_id"])
        self._attempt_ids += cur.fetchone() or ()
        return stored

    def get_refused(self, rows: Sequence[str], limit: int) -> Refusals:
        """Which of them PostgreSQL does not take; nothing is stored.

        All are told that it can read. Else it tells one at a time, and `most` at most.
        """
        try:
            violations = self._constraint_violations(rows)
        except EventsRefused:
            violations = []
        return Refusals(violations, True) if violations else self._refused_one_by_one(rows, limit)

    @in_transaction
    def _constraint_violations(self, cur: Cursor, rows: Sequence[str]) -> list[RefusedEvent]:
        """Raises: EventsRefused."""
        with translate_refusals():
            _stage(cur, rows)
        cur.execute(SQL["ingest_broken"])
        return [RefusedEvent(index, REASONS[name]) for index, name in cur.fetchall()]

    def _refused_one_by_one(self, rows: Sequence[str], limit: int) -> Refusals:
        """Each look takes all rows after the one that was found: few are for large batches."""
        refused_events: list[RefusedEvent] = []
        first = checked_chars = 0
        while first < len(rows):
            checked_chars += sum(map(len, rows[first:]))
            refused = self._first_refused(rows[first:])
            if refused is None:
                return Refusals(refused_events, bool(refused_events))
            refused_events.append(refused._replace(row=first + refused.row))
            first += refused.row + 1
            if len(refused_events) == limit or checked_chars > _MAX_CHECKED_CHARS:
                return Refusals(refused_events, first == len(rows))
        return Refusals(refused_events, True)

    def _first_refused(self, rows: Sequence[str]) -> RefusedEvent | None:
        try:
            self._check(rows)
        except EventsRefused as exc:
            return None if exc.index is None else RefusedEvent(exc.index, exc.reason)
        return None

    @in_transaction
    def _check(self, cur: Cursor, rows: Sequence[str]) -> None:
        with translate_refusals():
            cur.execute(SQL["ingest_checked"])
            _copy(cur, "ingest_check", rows)

    def _count_stored_before(self, cur: Cursor) -> int:
        cur.execute(SQL["ingest_stored_before"], (self._attempt_ids,))
        (count,) = cur.fetchone() or ()
        return int(count)


def _try_copy(cur: cursor, rows: Sequence[str]) -> bool:
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
    _stage(cur, rows)
    _refuse_expired(cur)
    cur.execute(SQL["ingest_insert"])
    inserted = cur.rowcount
    suppressed = _count_suppressed(cur) if inserted < len(rows) else 0
    if suppressed:
        cur.execute(SQL["ingest_delete_suppressed"])
    return Inserted(inserted, suppressed)


def _stage(cur: cursor, rows: Sequence[str]) -> None:
    cur.execute(SQL["ingest_staging"])
    _copy(cur, "ingest_stage", rows)


def _has_long_list(cur: cursor) -> bool:
    """Then looking up a staged batch costs less than the trigger does."""
    cur.execute(SQL["ingest_has_long_list"])
    return cur.fetchone() == (True,)


def _copy(cur: cursor, name: str, rows: Sequence[str]) -> None:
    cur.copy_expert(SQL[name], io.BytesIO("\n".join((*rows, "")).encode()), _COPY_CHUNK_BYTES)


def as_rows(events: Iterable[Event]) -> list[str]:
    """Events as COPY reads them."""
    return rows_of(zip(*events, strict=True))


def rows_of(columns: Iterable[Sequence[str]]) -> list[str]:
    """Events as COPY reads them, of their columns, in the order of the fields of Event."""
    return list(map("\t".join, zip(*map(_escaped, columns), strict=True)))


def _refuse_expired(cur: cursor) -> None:
    """Raises: EventsExpired."""
    cur.execute(SQL["ingest_expired"])
    expired = cur.fetchall()
    if expired:
        raise EventsExpired(expired[0][0], [index for _, index in expired])


def _count_suppressed(cur: cursor) -> int:
    """How many of the staged batch."""
    cur.execute(SQL["ingest_suppressed"])
    (count,) = cur.fetchone() or (0,)
    return int(count)


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    joined = "".join(texts)
    if joined.isprintable() and "\\" not in joined:
        return texts
    return [_escape(text) for text in texts]


def _escape(text: str) -> str:
    """`str.translate` takes ten times as long."""
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text
