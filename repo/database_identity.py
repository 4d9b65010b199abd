"""Which database this is, whatever it is reached by."""

import hashlib
from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import connection, cursor

from repo.statements import statements

SQL = statements("database_identity")


class DatabaseState(NamedTuple):
    """What tells a database apart, and what it answered before from what it answers now."""

    identity: str
    """The same for a database and its replicas alone."""
    erasure_version: str
    """The last one, and the horizon; empty before the first."""
    now: datetime


def has_identity(cur: cursor) -> bool:
    """False where `migrate` has yet to make it."""
    cur.execute(SQL["database_identity_exists"])
    return cur.fetchone() == (True,)


def read_database_state(cur: cursor) -> DatabaseState:
    """The present one, in one statement. Raises: psycopg2.Error, without a schema."""
    cur.execute(SQL["database_identity"])
    text, erasure_version, now = cur.fetchone() or ()
    return DatabaseState(hashlib.sha256(text.encode()).hexdigest()[:16], erasure_version, now)


def read_identity(cur: cursor) -> str | None:
    """The identity; None without a schema."""
    return read_database_state(cur).identity if has_identity(cur) else None


def identity_of(conn: connection) -> str | None:
    """The identity of the database that a new connection leads to. Raises: psycopg2.Error."""
    with conn.cursor() as cur:
        return read_identity(cur)
