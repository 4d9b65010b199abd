"""The command `migrate`."""

from contextlib import closing

import click

from commands._help import DATABASE, Command
from commands._migrate_first import apply_migrations
from commands._settings import read_settings
from config.database import CommandConnection, connect
from config.invocation import invocation
from repo.postgres_schema import other_schemas, own_schema
from repo.roles import missing_roles, roles_without_usage
from services.server_urls import database_server

_MISSING = """\
Database roles are missing, and this user may not create them. The service works as the owner of the
tables instead. To limit each part of it to the rights that it needs, let an administrator run
  {statements}
and run `{again}` again.\
"""
_NO_USAGE = """\
Roles may not use the schema, and this user may not grant it: let its owner run
  {statement}\
"""


@click.command(
    cls=Command,
    settings=DATABASE,
    exit_codes={0: "The schema is up to date."},
)
def migrate() -> None:
    """Bring the schema up to date. Concurrent calls wait for each other."""
    settings = read_settings()
    # Tables of 0.1.0 may be where a login's search path leads, which is no longer used.
    is_explicit = "database_schema" in settings.model_fields_set
    with database_server(settings) as url:
        if not apply_migrations(url, allow_second=is_explicit):
            click.echo("The schema is up to date.")
        with closing(connect(url, "analytics-migrate")) as conn:
            _print_missing(conn)


def _print_missing(conn: CommandConnection) -> None:
    """Print which other installations there are, and what an administrator has to do."""
    with conn.cursor() as cur:
        schema = own_schema(cur)
        others = other_schemas(cur, schema)
        roles, missing = roles_without_usage(cur), missing_roles(cur)
    if others:
        names = ", ".join(others)
        click.echo(f"This database has other installations, in the schemas: {names}.", err=True)
    if roles:
        statement = f'grant usage on schema "{schema}" to {", ".join(roles)};'
        click.echo(_NO_USAGE.format(statement=statement), err=True)
    if missing:
        statements = " ".join(f"create role {name};" for name in missing)
        click.echo(_MISSING.format(statements=statements, again=invocation("migrate")), err=True)
