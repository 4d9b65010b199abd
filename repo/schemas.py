"""The schema of the service's tables: the one that sessions are started with."""

from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("schemas")

_LOCK = 7_034_127_519_202_611  # any number, the same in all processes


def own_schema(cur: cursor) -> str:
    """Its name; it need not exist."""
    cur.execute(SQL["schemas_own"])
    (name,) = cur.fetchone() or ()
    return str(name)


def lock_schema(cur: cursor, schema: str) -> None:
    """Wait for other processes that migrate it, until the end of the transaction."""
    cur.execute(SQL["schemas_lock"], {"schema": schema, "lock": _LOCK})


def has_schema(cur: cursor, schema: str) -> bool:
    cur.execute(SQL["schemas_exists"], {"schema": schema})
    return cur.fetchone() == (True,)


def create_schema(cur: cursor, schema: str) -> None:
    """Raises: psycopg2.errors.InsufficientPrivilege."""
    cur.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))


def has_ledger(cur: cursor, schema: str) -> bool:
    """Whether migrations were applied there. Raises: psycopg2.errors.InsufficientPrivilege."""
    cur.execute(SQL["schemas_has_ledger"], {"schema": schema})
    return cur.fetchone() == (True,)


def name_conflicts(cur: cursor, schema: str, names: list[str]) -> list[tuple[Any, ...]]:
    """Which of the names tables of the schema have, and their owners."""
    cur.execute(SQL["schemas_name_conflicts"], {"schema": schema, "names": names})
    return cur.fetchall()


def other_schemas(cur: cursor, schema: str) -> list[str]:
    """Those of this database that have another installation."""
    cur.execute(SQL["schemas_others"], {"schema": schema})
    return [name for (name,) in cur]
