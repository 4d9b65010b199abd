"""The identity of the database, which does not depend on the URL that leads to it."""

import hashlib
from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import connection, cursor

from repo.statements import statements

SQL = statements("database_identity")


class DatabaseState(NamedTuple):
    """The identity of a database, and a version of what has been removed from it."""

    identity: str
    """Equal for a database and its replicas, and different for any other database."""
    erasure_version: str
    """The last erasure and the horizon; empty before the first."""
    now: datetime
    """The clock of the server, also on a replica."""


def has_identity(cur: cursor) -> bool:
    """Return whether the schema has an identity, which `migrate` creates."""
    cur.execute(SQL["database_identity_exists"])
    return cur.fetchone() == (True,)


def read_database_state(cur: cursor) -> DatabaseState:
    """Return the current state, read by one statement. Raises: psycopg2.Error without a schema."""
    cur.execute(SQL["database_identity"])
    text, erasure_version, now = cur.fetchone() or ()
    return DatabaseState(hashlib.sha256(text.encode()).hexdigest()[:16], erasure_version, now)


def read_identity(cur: cursor) -> str | None:
    """Return the identity of the database; None without a schema."""
    return read_database_state(cur).identity if has_identity(cur) else None


def identity_of(conn: connection) -> str | None:
    """Return the identity of the database behind a connection. Raises: psycopg2.Error."""
    with conn.cursor() as cur:
        return read_identity(cur)
