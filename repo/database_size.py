"""The size of the database on disk."""

from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors, with_cursor
from config.database import Connection, Cursor
from repo.statements import statements

SQL = statements("database_size")


class DatabaseSizeRepo:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_database_size(self, cur: Cursor) -> int:
        """Return the size in bytes of all tables and indexes, without the write-ahead log."""
        return read_database_size(cur)


def database_size(conn: connection) -> int:
    """Return the size in bytes, read over this connection. Raises: DatabaseUnavailable."""
    with translate_errors("this role may not connect"), conn, conn.cursor() as cur:
        return read_database_size(cur)


def read_database_size(cur: cursor) -> int:
    cur.execute(SQL["database_size"])
    (size,) = cur.fetchone() or (0,)
    return int(size)
