"""Migrate or check the schema before a command runs."""

from contextlib import closing, suppress

import click

from commands._progress import progress
from config.database import connect
from config.database_errors import DatabaseUnavailable
from config.settings import Settings
from repo import migrate
from repo.adopt.trigger import renew_rules


def apply_migrations(database_url: str) -> bool:
    """Apply and print the missing migrations; return whether there were any.

    Raises: DatabaseUnavailable, MigrationError.
    """
    with (
        closing(connect(database_url, "analytics-migrate")) as conn,
        progress("migrate", "migrations") as bar,
    ):
        applied = migrate.migrate(conn, migrate.migrations(), bar.add)
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


def refuse_foreign_tables(database_url: str) -> None:
    """Check for tables of another program with our names, if PostgreSQL is reachable.

    Raises: MigrationError if there are any.
    """
    with (
        suppress(DatabaseUnavailable),
        closing(connect(database_url, "analytics-schema")) as conn,
    ):
        migrate.refuse_foreign_tables(conn, migrate.migrations())
