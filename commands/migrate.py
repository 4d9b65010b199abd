"""python main.py migrate"""

import click

from commands._prepare import one_line_errors, prepare
from config.settings import load_settings
from services.servers import database_server


@click.command()
@one_line_errors
def migrate() -> None:
    """Bring the schema up to date. Processes that do so at once take turns."""
    with database_server(load_settings()) as url:
        if not prepare(url):
            click.echo("The schema is up to date.")
