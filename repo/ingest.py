"""Store events: batches of `load`, and the events of HTTP requests."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import in_transaction, translate_errors
from config.database import Connection, Cursor
from config.database_errors import DatabaseUnavailable
from repo.commit_outcome import transaction
from repo.rejection_reasons import (
    REASONS,
    REFUSAL_ERRORS,
    EventsExpired,
    EventsRefused,
    Refusals,
    RefusedEvent,
    refusal,
)
from repo.statements import statements
from utils.postgres import abort_connection

SQL = statements("ingest")

# Characters with another meaning in COPY's text format. The backslash must be first.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_COPY_CHUNK_BYTES = 65_536
_MAX_CHECKED_CHARS = 2**23  # of a refused batch that is searched for more errors


class Event(NamedTuple):
    """An event as text, which PostgreSQL parses, so that long numbers keep their digits."""

    event_id: str
    user_id: str
    event_name: str
    occurred_at: str
    properties: str


class Inserted(NamedTuple):
    """Numbers of events of a batch that were stored or suppressed; the others are duplicates."""

    inserted: int
    suppressed: int
    """Events of suppressed users, which are not stored."""


class IngestRepo:
    """Stores batches of events for commands; each batch is one transaction."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn
        # If all events of the last batch were new, those of the next one probably are too, and a
        # COPY into the table itself is the fastest way.
        self._is_all_new = True

    def insert(self, rows: Sequence[str]) -> Inserted:
        """Store the events whose `event_id` is new; `rows` are those of `as_rows`.

        Raises: EventsExpired, EventsRefused, OutcomeUnknown, DatabaseUnavailable.
        """
        rights = "this role may not store events"
        at_stake = f"up to {len(rows):,} more events may have been stored"
        with (
            translate_errors(rights),
            _translate_refusals(),
            transaction(self._conn, at_stake) as cur,
        ):
            if self._is_all_new and not _has_long_list(cur) and _try_copy(cur, sorted(rows)):
                return Inserted(len(rows), 0)
            stored, _ = _write(cur, rows)
        self._is_all_new = stored.inserted == len(rows)
        return stored

    def hang_up(self) -> None:
        """Abort the `insert` that runs in another thread; its batch is rolled back.

        If the commit has been sent already, the batch may be stored.
        """
        abort_connection(self._conn)

    def is_empty(self) -> bool:
        with self._conn, self._conn.cursor() as cur:
            cur.execute(SQL["ingest_is_empty"])
            return cur.fetchone() == (True,)


class HttpEventsRepo:
    """Stores the events of one request in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._attempt_ids: list[str] = []  # transaction ids of earlier attempts

    @in_transaction
    def insert(self, cur: Cursor, rows: Sequence[str]) -> Inserted:
        """Store the events whose `event_id` is new; `rows` are those of `as_rows`.

        Raises: EventsExpired, EventsRefused.
        """
        # The decorator calls this again after a lost connection. If the earlier commit succeeded,
        # its events look like duplicates now, so they are counted here.
        with _translate_refusals():
            stored, transaction_id = _write(cur, rows)
        if self._attempt_ids:
            stored = stored._replace(inserted=stored.inserted + self._count_stored_before(cur))
        self._attempt_ids.append(transaction_id)
        return stored

    def get_refused(self, rows: Sequence[str], limit: int) -> Refusals:
        """Return which events PostgreSQL refuses, without storing any.

        If all can be parsed, every refused event is found; otherwise one at a time, up to `limit`.
        """
        try:
            violations = self._constraint_violations(rows)
        except EventsRefused:
            violations = []
        return Refusals(violations, True) if violations else self._refused_one_by_one(rows, limit)

    @in_transaction
    def _constraint_violations(self, cur: Cursor, rows: Sequence[str]) -> list[RefusedEvent]:
        """Return the events that violate a constraint. Raises: EventsRefused."""
        with _translate_refusals():
            _copy(cur, "ingest_stage", rows)
        cur.execute(SQL["ingest_violations"])
        return [RefusedEvent(index, REASONS[name]) for index, name in cur.fetchall()]

    def _refused_one_by_one(self, rows: Sequence[str], limit: int) -> Refusals:
        """Return refused events, each found by sending all rows after the previous one again."""
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
        with _translate_refusals():
            _copy(cur, "ingest_check", rows)

    def _count_stored_before(self, cur: Cursor) -> int:
        cur.execute(SQL["ingest_already_stored"], (self._attempt_ids,))
        (count,) = cur.fetchone() or ()
        return int(count)


@contextmanager
def _translate_refusals() -> Iterator[None]:
    """Translate errors about values. Raises: EventsRefused, DatabaseUnavailable."""
    try:
        yield
    except REFUSAL_ERRORS as exc:
        raise refusal(exc) from exc
    except errors.ReadOnlySqlTransaction as exc:  # a replica, or a read-only primary
        raise DatabaseUnavailable from exc


def _try_copy(cur: cursor, rows: Sequence[str]) -> bool:
    """Store the rows if all are new and no trigger rejects any; return whether they were stored."""
    # `rows` are in the order of ids, so that two writers do not deadlock on the unique index.
    cur.execute("savepoint before")
    try:
        _copy(cur, "ingest_copy", rows)
        if cur.rowcount == len(rows):
            return True
    except (errors.UniqueViolation, errors.DeadlockDetected):
        pass
    cur.execute("rollback to savepoint before")
    return False


def _write(cur: cursor, rows: Sequence[str]) -> tuple[Inserted, str]:
    """Store new events by way of a staging table; also return the id of the transaction.

    Raises: EventsExpired if an event is too old.
    """
    _copy(cur, "ingest_stage", rows)
    cur.execute(SQL["ingest_insert"])
    inserted, transaction_id, accepted_from, expired = cur.fetchone() or ()
    if expired:
        raise EventsExpired(accepted_from, expired)
    suppressed = _count_suppressed(cur) if inserted < len(rows) else 0
    if suppressed:
        cur.execute(SQL["ingest_delete_suppressed"])
    return Inserted(inserted, suppressed), transaction_id


def _has_long_list(cur: cursor) -> bool:
    """Return whether the denylist is so long that staging a batch costs less than the trigger."""
    cur.execute(SQL["ingest_has_long_denylist"])
    return cur.fetchone() == (True,)


def _copy(cur: cursor, name: str, rows: Sequence[str]) -> None:
    cur.copy_expert(SQL[name], io.BytesIO("\n".join((*rows, "")).encode()), _COPY_CHUNK_BYTES)


def as_rows(events: Iterable[Event]) -> list[str]:
    """Return events as lines of COPY's text format."""
    return rows_of(zip(*events, strict=True))


def rows_of(columns: Iterable[Sequence[str]]) -> list[str]:
    """Return lines of COPY's text format from columns, in the order of the fields of Event."""
    return list(map("\t".join, zip(*map(_escaped, columns), strict=True)))


def _count_suppressed(cur: cursor) -> int:
    """Return how many events of the staged batch belong to suppressed users."""
    cur.execute(SQL["ingest_suppressed"])
    (count,) = cur.fetchone() or (0,)
    return int(count)


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    # One check of a whole column is much faster than a replacement in each text.
    joined = "".join(texts)
    if joined.isprintable() and "\\" not in joined:
        return texts
    return [_escape(text) for text in texts]


def _escape(text: str) -> str:
    # `str.translate` takes ten times as long.
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text
