"""python main.py migrate"""

import click

from commands._prepare import one_line_errors, prepare
from config.settings import load_settings
from services.servers import servers


@click.command()
@one_line_errors
def migrate() -> None:
    """Bring the schema up to date. Processes that do so at once take turns."""
    with servers(load_settings()) as endpoints:
        if not prepare(endpoints.database_url):
            click.echo("The schema is up to date.")
