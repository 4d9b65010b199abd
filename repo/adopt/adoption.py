"""Adopting a table: the trigger on it, the copy of what was there, and what became of its rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor
from psycopg2.extras import Json
from psycopg2.sql import SQL as Text
from psycopg2.sql import Composed, Identifier, Literal

from common.decorators import NO_ROOM
from config.failures import DatabaseUnavailable, DiskFull
from repo.adopt.mapping import Map, Place, columns, mapped
from repo.adopt.moments import in_range, rules_of
from repo.adopt.tables import SQL, CannotAdopt, Table, find_table, home_of_events
from repo.adopt.trigger import (
    MOST_BYTES,
    MOST_ROWS,
    Adoption,
    create_function,
    create_trigger,
    drop,
    fires,
    silence,
)
from repo.storage import read_database_size
from repo.transactions import transaction
from utils.local_times import Adjustment


class Held(Exception):
    """Transactions of others hold the table: nothing was changed."""


class MappedRow(NamedTuple):
    """A row as an event, or the reason why it cannot be one."""

    key: str | None
    event_id: UUID | None
    user_id: str
    event_name: str | None
    occurred_at: datetime | None
    properties: Any
    reason: str | None


class Known(NamedTuple):
    """A table that was adopted once."""

    adoption_id: int
    fields: dict[str, Any]
    is_released: bool


class Part(NamedTuple):
    """A table, or a partition of it, and how many of its pages are copied."""

    oid: int
    schema: str
    name: str
    pages: int
    copied: int


@dataclass(slots=True)
class Copied:
    """What became of some rows."""

    rows: int
    inserted: int


class Line(NamedTuple):
    """Rows of a day, of the same state: a name of `adopt_compare`, or the reason of a rejection."""

    day: date | None
    state: str
    rows: int
    events: int


class AdoptRepo:
    """Each method is one transaction. Raises: CannotAdopt, DatabaseUnavailable."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def find(self, name: str) -> tuple[Table, Place]:
        with self._transaction() as cur:
            table = find_table(cur, name)
            named = {"oid": table.oid, "schema": table.schema, "name": table.name}
            cur.execute(SQL["adopt_known_as"], named)
            (known_as,) = cur.fetchone() or (table.name,)
            return table, Place(home_of_events(cur), known_as)

    def database_size(self) -> int:
        with self._transaction() as cur:
            return read_database_size(cur)

    def known(self, place: Place) -> Known | None:
        with self._transaction() as cur:
            cur.execute(SQL["adopt_find"], {"known_as": place.known_as})
            row = cur.fetchone()
            return Known(*row) if row else None

    def check_map(self, made: Map, place: Place) -> None:
        """Raises: CannotAdopt where another one is in force."""
        if known := self.known(place):
            _check_same(known, made)

    def sample(self, table: Table, made: Map, place: Place, most: int) -> list[MappedRow]:
        """Some rows, as events."""
        some = Text(SQL["adopt_some"]).format(
            columns=columns(made.columns), table=table.identifier, most=Literal(most)
        )
        with self._transaction() as cur:
            cur.execute(mapped(table, made, place, some))
            return [MappedRow(*row) for row in cur]

    def fires(self, table: Table) -> bool | None:
        """Whether the trigger is on; None: it is not there."""
        with self._transaction() as cur:
            return fires(cur, table)

    def install(self, table: Table, made: Map, place: Place, wait_ms: int) -> Adoption:
        """From the end of this on all that comes in is events as well. Raises: Held."""
        with self._transaction(wait_ms) as cur:
            known = _remembered(cur, made, place)
            adoption = Adoption(table, made, place, known.adoption_id)
            create_function(cur, adoption)
            is_new = fires(cur, table) is None
            if is_new:
                create_trigger(cur, adoption)
            if is_new or known.is_released:
                cur.execute(SQL["adopt_forget_parts"], {"adoption_id": known.adoption_id})
            return adoption

    def holder(self, table: Table) -> tuple[int, int] | None:
        """The process that has held the table for the longest, and for how many seconds."""
        with self._transaction() as cur:
            cur.execute(SQL["adopt_holders"], {"oid": table.oid})
            row = cur.fetchone()
            return (row[0], row[1]) if row else None

    def parts(self, adoption: Adoption) -> list[Part]:
        """What is to be copied; each part is as long as it was when it was first asked for."""
        named = {"adoption_id": adoption.adoption_id, "oid": adoption.table.oid}
        with self._transaction() as cur:
            cur.execute(SQL["adopt_note_parts"], named)
            cur.execute(SQL["adopt_parts"], named)
            return [Part(*row) for row in cur]

    def copy_pages(self, adoption: Adoption, part: Part, beyond: int) -> Copied:
        """Copy the pages of a part from those that are copied up to, not with, `beyond`."""
        pages = Text(SQL["adopt_pages"]).format(
            columns=columns(adoption.map.columns),
            part=Identifier(part.schema, part.name),
            first=Literal(f"({part.copied},0)"),
            beyond=Literal(f"({beyond},0)"),
        )
        advance = {"adoption_id": adoption.adoption_id, "part": part.oid, "copied": beyond}
        at_stake = f"the events of up to {beyond - part.copied:,} more pages may be stored"
        with self._transaction(at_stake=at_stake) as cur:
            copied = _copy(
                cur, adoption, Text(SQL["adopt_stage"]).format(mapped=adoption.mapped(pages))
            )
            cur.execute(SQL["adopt_advance"], advance)
            return copied

    def copy_missing(self, adoption: Adoption) -> int:
        """Copy all that is no event in one snapshot and should be, wherever in the table it is."""
        with self._transaction(at_stake="events that were missing may be stored") as cur:
            return _copy(cur, adoption, _beside_events("adopt_stage_missing", adoption)).inserted

    def compare(self, adoption: Adoption) -> list[Line]:
        """What became of all rows, in one snapshot."""
        with self._transaction() as cur:
            cur.execute(_beside_events("adopt_compare", adoption))
            return [Line(*row) for row in cur]

    def adjusted(self, adoption: Adoption) -> dict[Adjustment, int]:
        """Rows whose local times clocks show twice, or never."""
        made = adoption.map
        if made.tz is None:
            return {}
        local = Identifier("r", made.occurred_at)
        parts = {"local": local, "in_range": in_range(local), "rows": adoption.table.identifier}
        counted = Text(SQL["adopt_adjusted"]).format(**parts, **rules_of(made.tz))
        with self._transaction() as cur:
            cur.execute(counted)
            return dict(cur.fetchall())

    def silence(self, adoption_id: int, home: str) -> None:
        """The trigger does nothing from now on."""
        with self._transaction() as cur:
            silence(cur, adoption_id, home)
            cur.execute(SQL["adopt_released"], {"adoption_id": adoption_id})

    def drop(self, adoption_id: int, home: str, wait_ms: int) -> None:
        """Raises: Held."""
        with self._transaction(wait_ms) as cur:
            drop(cur, adoption_id, home)

    @contextmanager
    def _transaction(
        self, wait_ms: int = 0, at_stake: str = "the last step may be done"
    ) -> Iterator[cursor]:
        """`wait_ms` is how long a lock is waited for; 0: as long as it takes."""
        try:
            with transaction(self._conn, at_stake) as cur:
                cur.execute(f"set local lock_timeout = {wait_ms:d}")
                yield cur
        except errors.LockNotAvailable as exc:
            raise Held from exc
        except errors.InsufficientPrivilege as exc:
            raise CannotAdopt(f"this role may not do that: {exc}".strip()) from exc
        except errors.UndefinedTable as exc:
            raise CannotAdopt(f"a table has gone: {exc}".strip()) from exc
        except errors.DiskFull as exc:
            raise DiskFull(NO_ROOM) from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            raise DatabaseUnavailable(f"PostgreSQL went away: {exc}".strip()) from exc


def _beside_events(name: str, adoption: Adoption) -> Composed:
    """A statement over all rows of the table and what there is of them here."""
    ours = ("events", "retention", "suppressed_users")
    tables = {name: Identifier(adoption.place.home, name) for name in ours}
    left_out = Text(SQL["adopt_left_out"]).format(**tables)
    rows = adoption.mapped(adoption.table.identifier)
    return Text(SQL[name]).format(mapped=rows, left_out=left_out, **tables)


def _remembered(cur: cursor, made: Map, place: Place) -> Known:
    """What was known before. Raises: CannotAdopt for another map than is in force."""
    fields = Json(made.as_json())
    cur.execute(SQL["adopt_remember"], {"known_as": place.known_as, "fields": fields})
    known = Known(*(cur.fetchone() or ()))
    _check_same(known, made)
    cur.execute(SQL["adopt_change"], {"adoption_id": known.adoption_id, "fields": fields})
    return known


def _check_same(known: Known, made: Map) -> None:
    wanted = made.as_json()
    if known.fields["event_id"] != wanted["event_id"]:
        before = ", ".join(known.fields["event_id"])
        raise CannotAdopt(f"its rows are events by {before}: by another key they would count twice")
    if known.fields != wanted and not known.is_released:
        raise CannotAdopt("it is adopted with another map: call adopt with --release first")


def _copy(cur: cursor, adoption: Adoption, staged: Composed) -> Copied:
    """Read rows into a table of our own, and from there into events."""
    cur.execute(SQL["adopt_staging"])
    cur.execute(staged)
    rows = cur.rowcount
    cur.execute(SQL["adopt_take"])
    inserted = cur.rowcount
    bounds = {"most_bytes": MOST_BYTES, "most_rows": MOST_ROWS}
    cur.execute(SQL["adopt_reject"], {"adoption_id": adoption.adoption_id, **bounds})
    return Copied(rows, inserted)
