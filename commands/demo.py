"""python main.py demo"""

import click


@click.command()
def demo() -> None:
    """Fill in demo events."""
