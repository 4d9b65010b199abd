"""Migrate or check the schema before a command runs."""

from contextlib import closing, suppress

import click

from commands._progress import progress
from config.database import connect
from config.database_errors import DatabaseUnavailable
from config.settings import Settings
from repo import migrate
from repo.adopt.trigger import renew_rules


def apply_migrations(database_url: str, *, allow_second: bool = False) -> bool:
    """Apply and print the missing migrations; return whether there were any.

    `allow_second` allows a new installation in a database that has one in another schema.

    Raises: DatabaseUnavailable, MigrationError.
    """
    with (
        closing(connect(database_url, "analytics-migrate")) as conn,
        progress("migrate", "migrations") as bar,
    ):
        applied = migrate.migrate(conn, migrate.migrations(), bar.add, allow_second=allow_second)
        renewed = renew_rules(conn)
    for migration in applied:
        click.echo(f"Applied migration {migration.number:04} {migration.name}.", err=True)
    for table, tz in renewed:
        click.echo(f"Local times of {table} now follow the current rules of {tz}.", err=True)
    return bool(applied)


def migrate_embedded(settings: Settings, database_url: str) -> None:
    """Migrate an embedded database; of a database in `DATABASE_URL` only check the schema.

    Raises: DatabaseUnavailable, MigrationError.
    """
    if settings.database_url:
        check_schema(database_url)
    else:
        apply_migrations(database_url)


def check_schema(database_url: str) -> None:
    """Raises: DatabaseUnavailable; MigrationError if the schema is missing or older."""
    with closing(connect(database_url, "analytics-schema")) as conn:
        migrate.check_schema(conn, migrate.migrations())


def check_schema_location(*database_urls: str) -> None:
    """Check where the tables are, as far as PostgreSQL is reachable and has them.

    Raises: MigrationError if tables of another program have our names, or if our tables are in
    another schema; OtherSearchPath.
    """
    with suppress(DatabaseUnavailable):
        for url in dict.fromkeys(database_urls):
            with closing(connect(url, "analytics-schema")) as conn:
                migrate.check_schema_location(conn, migrate.migrations())
