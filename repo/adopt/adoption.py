"""Adopt a table: install the trigger, copy existing rows, and report what became of the rows."""

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

from common.decorators import DISK_FULL_MESSAGE
from config.database_errors import DatabaseUnavailable, DiskFull
from repo.adopt.catalog import SQL, CannotAdopt, Table, find_table, schema_of_events
from repo.adopt.mapping import AdoptionNames, TableMapping, columns, mapped_rows
from repo.adopt.timestamps import is_in_range, rules_of
from repo.adopt.trigger import (
    MAX_REJECTED_BYTES,
    MAX_REJECTED_ROWS,
    Adoption,
    create_function,
    create_trigger,
    disable_trigger,
    drop_trigger,
    is_trigger_enabled,
)
from repo.commit_outcome import transaction
from repo.database_size import read_database_size
from utils.time.local_times import Adjustment


class LockHeld(Exception):
    """Other transactions hold a lock on the table; nothing was changed."""


class MappedRow(NamedTuple):
    """A row as an event, or with the reason why it cannot be one."""

    key: str | None
    event_id: UUID | None
    user_id: str
    event_name: str | None
    occurred_at: datetime | None
    properties: Any
    reason: str | None


class AdoptedTable(NamedTuple):
    """A table that is adopted, or was and is released."""

    adoption_id: int
    fields: dict[str, Any]
    is_released: bool


class Part(NamedTuple):
    """A table or a partition of it, its pages, and how many of them are copied."""

    oid: int
    schema: str
    name: str
    pages: int
    copied: int


@dataclass(slots=True)
class CopyResult:
    """Numbers of rows that were read, and of rows that were stored as events."""

    rows: int
    inserted: int


class ReportRow(NamedTuple):
    """The rows of a day with one state: a name in `adopt_compare`, or the reason of a rejection."""

    day: date | None
    state: str
    rows: int
    events: int


class AdoptRepo:
    """Each method is one transaction, and raises CannotAdopt and DatabaseUnavailable."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def find(self, name: str) -> tuple[Table, AdoptionNames]:
        """Return a table of the platform and its names."""
        with self._transaction() as cur:
            table = find_table(cur, name)
            # A table that was renamed keeps the name that the ids of its events are made of.
            params = {"oid": table.oid, "schema": table.schema, "name": table.name}
            cur.execute(SQL["adopt_original_name"], params)
            (original_name,) = cur.fetchone() or (table.name,)
            return table, AdoptionNames(schema_of_events(cur), original_name)

    def database_size(self) -> int:
        with self._transaction() as cur:
            return read_database_size(cur)

    def find_adopted(self, names: AdoptionNames) -> AdoptedTable | None:
        with self._transaction() as cur:
            cur.execute(SQL["adopt_find"], {"original_name": names.original_name})
            row = cur.fetchone()
            return AdoptedTable(*row) if row else None

    def check_mapping(self, mapping: TableMapping, names: AdoptionNames) -> None:
        """Raises: CannotAdopt if the table is adopted with another mapping."""
        if adopted := self.find_adopted(names):
            _check_mapping(adopted, mapping)

    def sample(
        self, table: Table, mapping: TableMapping, names: AdoptionNames, limit: int
    ) -> list[MappedRow]:
        """Return some rows as events."""
        rows_sql = Text(SQL["adopt_sample"]).format(
            columns=columns(mapping.columns), table=table.identifier, limit=Literal(limit)
        )
        with self._transaction() as cur:
            cur.execute(mapped_rows(table, mapping, names, rows_sql))
            return [MappedRow(*row) for row in cur]

    def is_trigger_enabled(self, table: Table) -> bool | None:
        """Return whether the trigger is enabled; None if there is none."""
        with self._transaction() as cur:
            return is_trigger_enabled(cur, table)

    def install(
        self, table: Table, mapping: TableMapping, names: AdoptionNames, wait_ms: int
    ) -> Adoption:
        """Install the trigger, which stores new rows as events from now on. Raises: LockHeld."""
        with self._transaction(wait_ms) as cur:
            adopted = _register(cur, mapping, names)
            adoption = Adoption(table, mapping, names, adopted.adoption_id)
            create_function(cur, adoption)
            is_new = is_trigger_enabled(cur, table) is None
            if is_new:
                create_trigger(cur, adoption)
            # Rows of the time without a trigger may be on any page, so all pages are copied again.
            if is_new or adopted.is_released:
                cur.execute(SQL["adopt_delete_parts"], {"adoption_id": adopted.adoption_id})
            return adoption

    def lock_holder(self, table: Table) -> tuple[int, int] | None:
        """Return the pid with the oldest lock on the table, and its seconds; None without one."""
        with self._transaction() as cur:
            cur.execute(SQL["adopt_lock_holder"], {"oid": table.oid})
            row = cur.fetchone()
            return (row[0], row[1]) if row else None

    def parts(self, adoption: Adoption) -> list[Part]:
        """Return the parts to copy, with the number of pages that they had when adoption began."""
        params = {"adoption_id": adoption.adoption_id, "oid": adoption.table.oid}
        with self._transaction() as cur:
            cur.execute(SQL["adopt_insert_parts"], params)
            cur.execute(SQL["adopt_parts"], params)
            return [Part(*row) for row in cur]

    def copy_pages(self, adoption: Adoption, part: Part, end_page: int) -> CopyResult:
        """Copy the next pages of a part, up to but not including the page `end_page`."""
        # A range of ctid reads these pages only, whatever indexes the table has.
        pages = Text(SQL["adopt_pages"]).format(
            columns=columns(adoption.mapping.columns),
            part=Identifier(part.schema, part.name),
            first_tid=Literal(f"({part.copied},0)"),
            end_tid=Literal(f"({end_page},0)"),
        )
        params = {"adoption_id": adoption.adoption_id, "part": part.oid, "copied_pages": end_page}
        at_stake = f"the events of up to {end_page - part.copied:,} more pages may have been stored"
        with self._transaction(at_stake=at_stake) as cur:
            result = _copy(
                cur, adoption, Text(SQL["adopt_stage"]).format(mapped=adoption.mapped_rows(pages))
            )
            # In the same transaction as the events, so that a copy that ends can be continued.
            cur.execute(SQL["adopt_update_part"], params)
            return result

    def copy_missing(self, adoption: Adoption) -> int:
        """Store events for all rows of one snapshot that should have one; return their number."""
        with self._transaction(at_stake="missing events may have been stored") as cur:
            return _copy(
                cur, adoption, _statement_over_rows("adopt_stage_missing", adoption)
            ).inserted

    def compare(self, adoption: Adoption) -> list[ReportRow]:
        """Return the states of all rows, counted in one snapshot."""
        with self._transaction() as cur:
            cur.execute(_statement_over_rows("adopt_compare", adoption))
            return [ReportRow(*row) for row in cur]

    def count_adjusted(self, adoption: Adoption) -> dict[Adjustment, int]:
        """Return the number of rows with a repeated or skipped local time."""
        if (tz := adoption.mapping.tz) is None:
            return {}
        with self._transaction() as cur:
            cur.execute(_statement_over_local_times("adopt_count_adjusted", adoption, tz))
            return dict(cur.fetchall())

    def count_other_rules(self, adoption: Adoption) -> int | None:
        """Return the number of rows whose local time is another instant by PostgreSQL's own rules
        of the zone; None if PostgreSQL does not know the zone."""
        if (tz := adoption.mapping.tz) is None:
            return 0
        with self._transaction() as cur:
            cur.execute(SQL["adopt_knows_zone"], {"tz": tz})
            if cur.fetchone() != (True,):
                return None
            cur.execute(_statement_over_local_times("adopt_count_other_rules", adoption, tz))
            (rows,) = cur.fetchone() or (0,)
            return int(rows)

    def disable_trigger(self, adoption_id: int, own_schema: str) -> None:
        """Make the trigger do nothing from now on, without a lock on the table."""
        with self._transaction() as cur:
            disable_trigger(cur, adoption_id, own_schema)
            cur.execute(SQL["adopt_release"], {"adoption_id": adoption_id})

    def drop(self, adoption_id: int, own_schema: str, wait_ms: int) -> None:
        """Drop the trigger and its functions. Raises: LockHeld."""
        with self._transaction(wait_ms) as cur:
            drop_trigger(cur, adoption_id, own_schema)

    @contextmanager
    def _transaction(
        self, wait_ms: int = 0, at_stake: str = "the last step may have been stored"
    ) -> Iterator[cursor]:
        """Open a transaction that waits `wait_ms` for each lock; 0 is without a limit."""
        # A trigger needs a lock that excludes writers: while this waits for it, all new writers of
        # the platform queue behind it.
        try:
            with transaction(self._conn, at_stake) as cur:
                cur.execute("set local lock_timeout = %s", (wait_ms,))
                yield cur
        except errors.LockNotAvailable as exc:
            raise LockHeld from exc
        except errors.InsufficientPrivilege as exc:
            raise CannotAdopt(f"this role lacks privileges: {exc}".strip()) from exc
        except errors.UndefinedTable as exc:
            raise CannotAdopt(f"a table no longer exists: {exc}".strip()) from exc
        except errors.DiskFull as exc:
            raise DiskFull(DISK_FULL_MESSAGE) from exc
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            raise DatabaseUnavailable(
                f"the connection to PostgreSQL was lost: {exc}".strip()
            ) from exc


def _statement_over_rows(name: str, adoption: Adoption) -> Composed:
    """Return a statement over all rows of the table and the events made of them."""
    own_tables = ("events", "retention", "suppressed_users")
    tables = {name: Identifier(adoption.names.own_schema, name) for name in own_tables}
    excluded = Text(SQL["adopt_exclusion"]).format(**tables)
    rows = adoption.mapped_rows(adoption.table.identifier)
    return Text(SQL[name]).format(mapped=rows, exclusion=excluded, **tables)


def _statement_over_local_times(name: str, adoption: Adoption, tz: str) -> Composed:
    """Return a statement over the local times of all rows and the rules of their zone."""
    local = Identifier("r", adoption.mapping.occurred_at)
    parts = {"local": local, "in_range": is_in_range(local), "rows": adoption.table.identifier}
    return Text(SQL[name]).format(**parts, **rules_of(tz), tz=Literal(tz))


def _register(cur: cursor, mapping: TableMapping, names: AdoptionNames) -> AdoptedTable:
    """Store the mapping, and return the adoption as it was. Raises: CannotAdopt."""
    fields = Json(mapping.as_json())
    cur.execute(SQL["adopt_register"], {"original_name": names.original_name, "fields": fields})
    adopted = AdoptedTable(*(cur.fetchone() or ()))
    _check_mapping(adopted, mapping)
    # After a release, the mapping may change except for the key.
    cur.execute(SQL["adopt_update"], {"adoption_id": adopted.adoption_id, "fields": fields})
    return adopted


def _check_mapping(adopted: AdoptedTable, mapping: TableMapping) -> None:
    requested = mapping.as_json()
    if adopted.fields["event_id"] != requested["event_id"]:
        key_columns = ", ".join(adopted.fields["event_id"])
        raise CannotAdopt(
            f"its rows are events by the key {key_columns}: by another key they would count twice"
        )
    if adopted.fields != requested and not adopted.is_released:
        raise CannotAdopt("it is adopted with another mapping: run adopt with --release first")


def _copy(cur: cursor, adoption: Adoption, staged: Composed) -> CopyResult:
    """Read rows into a staging table, store new events, and record rejected rows."""
    cur.execute(SQL["adopt_create_staging"])
    cur.execute(staged)
    rows = cur.rowcount
    cur.execute(SQL["adopt_insert_events"])
    inserted = cur.rowcount
    bounds = {"max_bytes": MAX_REJECTED_BYTES, "max_rows": MAX_REJECTED_ROWS}
    cur.execute(SQL["adopt_reject"], {"adoption_id": adoption.adoption_id, **bounds})
    return CopyResult(rows, inserted)
