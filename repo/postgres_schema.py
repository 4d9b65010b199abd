"""The PostgreSQL schema of the service's tables, which is the search path of its sessions."""

from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("postgres_schema")

_LOCK = 7_034_127_519_202_611  # key of the advisory lock: arbitrary, equal in all processes


def own_schema(cur: cursor) -> str:
    """Return the name of the session's schema, which may not exist yet."""
    cur.execute(SQL["postgres_schema_own"])
    (name,) = cur.fetchone() or ()
    return str(name)


def lock_schema(cur: cursor, schema: str) -> None:
    """Exclude other processes that migrate the schema, until the end of the transaction."""
    cur.execute(SQL["postgres_schema_lock"], {"schema": schema, "lock": _LOCK})


def has_schema(cur: cursor, schema: str) -> bool:
    cur.execute(SQL["postgres_schema_exists"], {"schema": schema})
    return cur.fetchone() == (True,)


def create_schema(cur: cursor, schema: str) -> None:
    """Create the schema. Raises: psycopg2.errors.InsufficientPrivilege."""
    cur.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))


def has_ledger(cur: cursor, schema: str) -> bool:
    """Return whether migrations were applied. Raises: psycopg2.errors.InsufficientPrivilege."""
    cur.execute(SQL["postgres_schema_has_ledger"], {"schema": schema})
    return cur.fetchone() == (True,)


def name_conflicts(cur: cursor, schema: str, names: list[str]) -> list[tuple[Any, ...]]:
    """Return those of the names that tables of the schema have, with their owners."""
    cur.execute(SQL["postgres_schema_name_conflicts"], {"schema": schema, "names": names})
    return cur.fetchall()


def other_schemas(cur: cursor, schema: str) -> list[str]:
    """Return the schemas of this database with other installations of the service."""
    cur.execute(SQL["postgres_schema_others"], {"schema": schema})
    return [name for (name,) in cur]
