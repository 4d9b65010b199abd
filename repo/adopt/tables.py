"""What the catalog tells of a table that is to be adopted."""

from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("adopt")


class CannotAdopt(Exception):
    """The rows of the table cannot be events in this way; the text tells why."""


class Column(NamedTuple):
    name: str
    type: str
    """As SQL finds it, whatever the search path."""
    display_type: str
    base: str
    """What the catalog calls the type, such as int8; of a domain, the type that it is made of."""
    category: str


class Table(NamedTuple):
    oid: int
    schema: str
    name: str
    is_partitioned: bool
    columns: dict[str, Column]
    key: tuple[str, ...]
    """The columns of the primary key; none where there is none."""
    rows: int
    """About as many."""
    size: int
    """In bytes, about."""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def find_table(cur: cursor, name: str) -> Table:
    """`name` is exact, with its schema before it or not. Raises: CannotAdopt."""
    cur.execute(SQL["adopt_table"], {"name": name})
    matches = cur.fetchall()
    if len(matches) != 1:
        problem = "two tables are" if matches else "no table is"
        raise CannotAdopt(f"{problem} called {name}: say it as SCHEMA.TABLE, letters as they are")
    oid, schema, called, *_ = matches[0]
    _check_kind(name, *matches[0][3:])
    cur.execute(SQL["adopt_size"], {"oid": oid})
    rows, size = cur.fetchone() or (0, 0)
    is_partitioned = matches[0][3] == "p"
    return Table(
        oid, schema, called, is_partitioned, _columns(cur, oid), _key(cur, oid), rows, size
    )


def _check_kind(
    name: str,
    kind: str,
    is_partition: bool,
    has_children: bool,
    may_read: bool,
    may_trigger: bool,
    is_filtered: bool,
    is_events: bool,
) -> None:
    problems = {
        "is the table of events itself": is_events,
        "is no table, and only tables have rows that come in": kind not in "rp",
        "is a partition: adopt the table that it is a part of": is_partition,
        "has tables that inherit from it: adopt each of them": has_children and kind == "r",
        "may not be read by this role: grant it SELECT": not may_read,
        "may not get triggers from this role: grant it TRIGGER": not may_trigger,
        "hides rows from this role by row level security: use its owner": is_filtered,
    }
    for problem, is_so in problems.items():
        if is_so:
            raise CannotAdopt(f"{name} {problem}")


def _columns(cur: cursor, oid: int) -> dict[str, Column]:
    cur.execute(SQL["adopt_columns"], {"oid": oid})
    # What is computed when it is read is not there when a trigger looks.
    return {name: Column(name, *types) for name, generated, *types in cur if generated != "v"}


def _key(cur: cursor, oid: int) -> tuple[str, ...]:
    cur.execute(SQL["adopt_key"], {"oid": oid})
    return tuple(name for (name,) in cur)


def schema_of_events(cur: cursor) -> str:
    """The schema of our own tables."""
    cur.execute(SQL["adopt_home"])
    (schema,) = cur.fetchone() or ("public",)
    return str(schema)
