"""The state of the schema."""

from common.decorators import with_cursor
from config.database import Connection, Cursor
from repo.migrate import migrations, missing_migrations


class SchemaRepo:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_missing_migrations(self, cur: Cursor) -> int:
        """How many migrations of this program the database lacks; negative if it is newer."""
        return missing_migrations(cur, migrations())
