"""Read from the catalog what is needed to adopt a table, and check that it can be adopted."""

from difflib import get_close_matches
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor

from repo.migrate import migrations, own_names
from repo.statements import statements

SQL = statements("adopt")

_EXACT_NAME = "write SCHEMA.TABLE in exact upper and lower case"
_MAX_SIMILAR = 3


class CannotAdopt(Exception):
    """The table cannot be adopted in this way; the message says why."""


class Column(NamedTuple):
    name: str
    type: str
    """The type with its schema, which does not depend on the search path."""
    display_type: str
    """The type as PostgreSQL shows it, such as timestamp without time zone."""
    base: str
    """The name of the type in the catalog, such as int8; for a domain, that of its base type."""
    category: str
    """The category of the base type in pg_type."""


class Table(NamedTuple):
    oid: int
    schema: str
    name: str
    is_partitioned: bool
    columns: dict[str, Column]
    key: tuple[str, ...]
    """The columns of the primary key; empty without one."""
    rows: int
    """An estimate."""
    size: int
    """The approximate size in bytes."""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def find_table(cur: cursor, name: str) -> Table:
    """Return the table of this exact name, with or without its schema. Raises: CannotAdopt."""
    cur.execute(SQL["adopt_table"], {"name": name})
    matches = cur.fetchall()
    if not matches:
        raise CannotAdopt(f"no table is named {name}: {_hint(cur, name)}")
    if len(matches) > 1:
        raise CannotAdopt(f"two tables are named {name}: {_EXACT_NAME}")
    oid, schema, called, *_ = matches[0]
    _check_kind(name, *matches[0][3:])
    cur.execute(SQL["adopt_estimate_size"], {"oid": oid})
    rows, size = cur.fetchone() or (0, 0)
    is_partitioned = matches[0][3] == "p"
    return Table(
        oid, schema, called, is_partitioned, _columns(cur, oid), _key(cur, oid), rows, size
    )


def _hint(cur: cursor, name: str) -> str:
    """Return a question with the names of similar tables, or else how to write a name."""
    cur.execute(SQL["adopt_table_names"], {"own_names": own_names(migrations())})
    tables = dict[str, str]()  # how each is written, by its names in lower case
    for schema, called in cur:
        qualified = f"{schema}.{called}"
        written = called if schema == "public" else qualified
        tables |= {text.lower(): written for text in (called, qualified)}
    close = [tables[text] for text in get_close_matches(name.lower(), tables, n=_MAX_SIMILAR)]
    return f"did you mean {' or '.join(dict.fromkeys(close))}?" if close else _EXACT_NAME


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
        "is the table of events of this service": is_events,
        "is not a table, and only tables can be adopted": kind not in "rp",
        "is a partition: adopt its partitioned table": is_partition,
        "has tables that inherit from it: adopt each of them": has_children and kind == "r",
        "cannot be read by this role: grant it SELECT": not may_read,
        "cannot get triggers from this role: grant it TRIGGER": not may_trigger,
        "hides rows from this role by row-level security: connect as its owner": is_filtered,
    }
    for problem, is_so in problems.items():
        if is_so:
            raise CannotAdopt(f"{name} {problem}")


def _columns(cur: cursor, oid: int) -> dict[str, Column]:
    cur.execute(SQL["adopt_columns"], {"oid": oid})
    # Virtual generated columns are computed when they are read, and have no value in a trigger.
    return {name: Column(name, *types) for name, generated, *types in cur if generated != "v"}


def _key(cur: cursor, oid: int) -> tuple[str, ...]:
    cur.execute(SQL["adopt_key"], {"oid": oid})
    return tuple(name for (name,) in cur)


def schema_of_events(cur: cursor) -> str:
    """Return the schema of the service's own tables."""
    cur.execute(SQL["adopt_own_schema"])
    (schema,) = cur.fetchone() or ("public",)
    return str(schema)
