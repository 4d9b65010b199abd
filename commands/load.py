"""python main.py load"""

import click


@click.command()
def load() -> None:
    """Load events from files."""
