"""The command `migrate`."""

from contextlib import closing

import click

from commands._help import DATABASE, Command
from commands._migrate_first import apply_migrations
from commands._settings import read_settings
from config.database import connect
from config.invocation import invocation
from repo.roles import missing_roles
from services.connections import database_server

_MISSING = """\
Database roles are missing, and this user may not create them. The service works as the owner of the
tables instead. To limit each part of it to the rights that it needs, let an administrator run
  {statements}
and run `{again}` again.\
"""


@click.command(
    cls=Command,
    settings=DATABASE,
    exit_codes={0: "The schema is up to date."},
)
def migrate() -> None:
    """Bring the schema up to date. Concurrent calls wait for each other."""
    with database_server(read_settings()) as url:
        if not apply_migrations(url):
            click.echo("The schema is up to date.")
        _print_missing_roles(url)


def _print_missing_roles(url: str) -> None:
    with closing(connect(url, "analytics-migrate")) as conn, conn.cursor() as cur:
        missing = missing_roles(cur)
    if missing:
        statements = " ".join(f"create role {name};" for name in missing)
        click.echo(_MISSING.format(statements=statements, again=invocation("migrate")), err=True)
