"""Which database this is, whatever it is reached by."""

import hashlib

from psycopg2.extensions import connection, cursor

from repo.statements import statements

SQL = statements("identity")


def read_identity(cur: cursor) -> str | None:
    """The same for a database and its replicas alone; None where `migrate` has yet to make it."""
    cur.execute(SQL["identity_is_there"])
    if cur.fetchone() != (True,):
        return None
    cur.execute(SQL["identity"])
    (text,) = cur.fetchone() or ("",)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_of(conn: connection) -> str | None:
    """The identity of the database that a new connection leads to. Raises: psycopg2.Error."""
    with conn.cursor() as cur:
        return read_identity(cur)
