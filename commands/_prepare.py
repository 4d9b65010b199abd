"""What all commands share: errors as one line, and a schema that is up to date."""

from collections.abc import Callable
from contextlib import closing
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from config.database import connect
from config.failures import DatabaseError
from config.settings import SettingsError
from repo import migrate
from services.embedded import EmbeddedError

P = ParamSpec("P")
R = TypeVar("R")

_EXPECTED = (SettingsError, EmbeddedError, DatabaseError, migrate.MigrationError)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Say what is wrong without a trace, and exit with 1."""

    @wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _EXPECTED as exc:
            raise click.ClickException(str(exc)) from exc

    return call


def prepare(database_url: str) -> bool:
    """Apply the migrations that are missing; tell them, and whether there were any.

    Raises: DatabaseUnavailable, MigrationError.
    """
    with closing(connect(database_url, "analytics-migrate")) as conn:
        applied = migrate.migrate(conn, migrate.migrations())
    for migration in applied:
        click.echo(f"Applied migration {migration.number:04} {migration.name}.", err=True)
    return bool(applied)
