"""The state of the schema."""

from typing import Literal

from psycopg2.extensions import cursor

from common.decorators import with_cursor
from config.database import Connection, Cursor
from repo.engine.watermark import SQL
from repo.migrate import migrations, missing_migrations

StateOfRollups = Literal["ok", "none", "foreign"]
"""Foreign are those of a cluster that this database was restored from."""


class SchemaRepo:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_missing_migrations(self, cur: Cursor) -> int:
        """How many migrations of this program the database lacks; negative if it is newer."""
        return missing_migrations(cur, migrations())

    @with_cursor
    def get_rollups_state(self, cur: Cursor) -> StateOfRollups:
        return read_state_of_rollups(cur)


def read_state_of_rollups(cur: cursor) -> StateOfRollups:
    """Whether there are rollups that questions ask, of this cluster."""
    cur.execute(SQL["rollups_generations"])
    is_there, is_foreign = cur.fetchone() or (False, False)
    if is_there:
        return "ok"
    return "foreign" if is_foreign else "none"
