"""The trigger on an adopted table, which stores new rows as events in the same transaction."""

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection, cursor
from psycopg2.sql import SQL as Text
from psycopg2.sql import Composable, Composed, Identifier, Literal

from repo.adopt.catalog import SQL, Table
from repo.adopt.mapping import AdoptionNames, TableMapping, mapped_rows, types_unchanged
from repo.adopt.timestamps import Instant, by_rules
from repo.commit_outcome import transaction
from utils.time.zones import TZDATA_VERSION, zone_names

# Limits of what is recorded of rejected rows: the size of the table, and the rows of one statement.
MAX_REJECTED_BYTES = 8 * 1024 * 1024
MAX_REJECTED_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Adoption:
    """A table, its mapping and names, and the id of the adoption."""

    table: Table
    mapping: TableMapping
    names: AdoptionNames
    adoption_id: int

    @property
    def function(self) -> Identifier:
        return _function(self.adoption_id, self.names.own_schema)

    @property
    def local_function(self) -> Identifier:
        """The function that converts local times in the trigger."""
        return _local_function(self.adoption_id, self.names.own_schema)

    def mapped_rows(self, rows: Composable) -> Composed:
        return mapped_rows(self.table, self.mapping, self.names, rows)


def _function(adoption_id: int, own_schema: str) -> Identifier:
    return Identifier(own_schema, f"adopted_rows_{adoption_id}")


def _local_function(adoption_id: int, own_schema: str) -> Identifier:
    return Identifier(own_schema, f"adopted_moment_{adoption_id}")


def trigger_name(own_schema: str) -> str:
    """Return the trigger's name as SQL, which differs between installations in one database."""
    return "analytics_adopt" if own_schema == "public" else f'"analytics_adopt_{own_schema}"'


def is_trigger_enabled(cur: cursor, table: Table) -> bool | None:
    """Return whether the trigger is enabled; None if there is none."""
    cur.execute(SQL["adopt_trigger_state"], {"oid": table.oid})
    row = cur.fetchone()
    return bool(row[0]) if row else None


def create_function(cur: cursor, adoption: Adoption) -> None:
    """Create or replace the function of the trigger."""
    # The body is passed as a literal; the names and values in it are quoted already.
    if adoption.mapping.tz:
        create_local_function(cur, adoption.local_function, adoption.mapping.tz)
    body = Literal(trigger_body(cur, adoption).as_string(cur))
    cur.execute(Text(SQL["adopt_function"]).format(function=adoption.function, body=body))


def create_local_function(cur: cursor, function: Identifier, tz: str) -> None:
    """Create or replace the function that converts local times of a zone."""
    body = Text("select {}").format(by_rules(tz)(Text("$1")))
    statement = Text(SQL["adopt_local_function"]).format(
        function=function, body=Literal(body.as_string(cur)), rules=Literal(TZDATA_VERSION)
    )
    cur.execute(statement)


def renew_rules(conn: connection) -> list[tuple[str, str]]:
    """Update the rules of zones in triggers to the pinned tzdata.

    Returns the tables and zones whose rules were replaced; none if the role may not replace them.
    """
    with transaction(conn, "rules of zones may have been renewed") as cur:
        stale = [row for row in _stale_rules(cur) if row[-1] in zone_names()]
        for _, adoption_id, own_schema, tz in stale:
            create_local_function(cur, _local_function(adoption_id, own_schema), tz)
    return [(table, tz) for table, *_, tz in stale]


def _stale_rules(cur: cursor) -> list[tuple[Any, ...]]:
    cur.execute(SQL["adopt_may_update"])
    if cur.fetchone() != (True,):
        return []
    cur.execute(SQL["adopt_stale_rules"], {"rules": TZDATA_VERSION})
    return cur.fetchall()


def create_trigger(cur: cursor, adoption: Adoption) -> None:
    # Row triggers are cloned to partitions. A statement trigger would not fire for an INSERT into a
    # partition itself.
    kind = "row" if adoption.table.is_partitioned else "statement"
    statement = Text(SQL[f"adopt_trigger_{kind}"]).format(
        trigger=Text(trigger_name(adoption.names.own_schema)),
        table=adoption.table.identifier,
        function=adoption.function,
    )
    cur.execute(statement)


def disable_trigger(cur: cursor, adoption_id: int, own_schema: str) -> None:
    cur.execute(
        Text(SQL["adopt_disable_trigger"]).format(function=_function(adoption_id, own_schema))
    )


def drop_trigger(cur: cursor, adoption_id: int, own_schema: str) -> None:
    """Drop the functions, and the triggers that call them."""
    functions = {
        "function": _function(adoption_id, own_schema),
        "local": _local_function(adoption_id, own_schema),
    }
    cur.execute(Text(SQL["adopt_drop"]).format(**functions))


def trigger_body(cur: cursor, adoption: Adoption) -> Composed:
    own_schema, rows = adoption.names.own_schema, _arriving_rows(adoption)
    rejected = Identifier(own_schema, "rejected_rows")
    return Text(SQL["adopt_body"]).format(
        shape=types_unchanged(adoption.table, adoption.mapping),
        rows=rows,
        mapped=mapped_rows(
            adoption.table, adoption.mapping, adoption.names, rows, _instant(adoption)
        ),
        events=Identifier(own_schema, "events"),
        rejected=rejected,
        rejected_name=Literal(rejected.as_string(cur)),
        adoption_id=Literal(adoption.adoption_id),
        max_bytes=Literal(MAX_REJECTED_BYTES),
        max_rows=Literal(MAX_REJECTED_ROWS),
    )


def _instant(adoption: Adoption) -> Instant:
    return lambda local: Text("{}({})").format(adoption.local_function, local)


def _arriving_rows(adoption: Adoption) -> Composable:
    """Return the new rows as SQL: those of a statement, or the one of a partitioned table."""
    if not adoption.table.is_partitioned:
        return Identifier("arriving")
    values = (
        Text("{} as {}").format(Identifier("new", name), Identifier(name))
        for name in adoption.mapping.columns
    )
    return Text("(select {})").format(Text(", ").join(values))
