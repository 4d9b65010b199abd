"""Runs commands in this process, because starting Python takes longer than most commands."""

from click.testing import CliRunner, Result

from main import cli


def run_cli(*arguments: object, stdin: str | bytes = "", **environment: str) -> Result:
    """The result of `python main.py` with these arguments and additional environment variables."""
    return CliRunner().invoke(cli, [*map(str, arguments)], stdin, environment)
