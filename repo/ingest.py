"""How events come into the table."""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import in_transaction, translated
from config.database import Connection, Cursor
from repo.refused_events import REASONS, EventsExpired, EventsRefused, Refusals, Refused, refusals
from repo.statements import statements
from repo.transactions import transaction
from utils.postgres import hang_up

SQL = statements("ingest")

# What COPY's text form reads as something else.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_AT_A_TIME = 65_536  # bytes that are handed to COPY
_MOST_LOOKED_AT = 2**23  # characters of a batch that is refused, until nothing else is looked for


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
        self._are_new = True
        """Whether all of the last batch were: so may be those of the next."""

    def insert(self, rows: Sequence[str]) -> Inserted:
        """Store those whose event_id is new, and tell how many; `rows` are of `as_rows`.

        Raises: EventsExpired, EventsRefused, OutcomeUnknown, DatabaseUnavailable.
        """
        rights = "this role may not store events"
        at_stake = f"up to {len(rows):,} more events may be stored"
        with translated(rights), refusals(), transaction(self._conn, at_stake) as cur:
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
        with refusals():
            stored = _write(cur, rows)
        if self._tries:
            stored = stored._replace(inserted=stored.inserted + self._stored_before(cur))
        cur.execute(SQL["ingest_own_id"])
        self._tries += cur.fetchone() or ()
        return stored

    def get_refused(self, rows: Sequence[str], most: int) -> Refusals:
        """Which of them PostgreSQL does not take; nothing is stored.

        All are told that it can read. Else it tells one at a time, and `most` at most.
        """
        try:
            broken = self._broken(rows)
        except EventsRefused:
            broken = []
        return Refusals(broken, True) if broken else self._walked(rows, most)

    @in_transaction
    def _broken(self, cur: Cursor, rows: Sequence[str]) -> list[Refused]:
        """Raises: EventsRefused."""
        with refusals():
            _stage(cur, rows)
        cur.execute(SQL["ingest_broken"])
        return [Refused(place, REASONS[name]) for place, name in cur.fetchall()]

    def _walked(self, rows: Sequence[str], most: int) -> Refusals:
        """Each look takes all rows after the one that was found: few are for large batches."""
        found: list[Refused] = []
        first = looked_at = 0
        while first < len(rows):
            looked_at += sum(map(len, rows[first:]))
            refused = self._first_refused(rows[first:])
            if refused is None:
                return Refusals(found, bool(found))
            found.append(refused._replace(place=first + refused.place))
            first += refused.place + 1
            if len(found) == most or looked_at > _MOST_LOOKED_AT:
                return Refusals(found, first == len(rows))
        return Refusals(found, True)

    def _first_refused(self, rows: Sequence[str]) -> Refused | None:
        try:
            self._check(rows)
        except EventsRefused as exc:
            return None if exc.place is None else Refused(exc.place, exc.known)
        return None

    @in_transaction
    def _check(self, cur: Cursor, rows: Sequence[str]) -> None:
        with refusals():
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
    _stage(cur, rows)
    _refuse_expired(cur)
    cur.execute(SQL["ingest_insert"])
    inserted = cur.rowcount
    suppressed = _suppressed(cur) if inserted < len(rows) else 0
    if suppressed:
        cur.execute(SQL["ingest_leave_out"])
    return Inserted(inserted, suppressed)


def _stage(cur: cursor, rows: Sequence[str]) -> None:
    cur.execute(SQL["ingest_staging"])
    _copy(cur, "ingest_stage", rows)


def _has_long_list(cur: cursor) -> bool:
    """Then looking up a staged batch costs less than the trigger does."""
    cur.execute(SQL["ingest_has_long_list"])
    return cur.fetchone() == (True,)


def _copy(cur: cursor, name: str, rows: Sequence[str]) -> None:
    cur.copy_expert(SQL[name], io.BytesIO("\n".join((*rows, "")).encode()), _AT_A_TIME)


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
