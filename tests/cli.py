"""Commands as they are called, but in this process: to start Python takes longer than most take."""

from click.testing import CliRunner, Result

from main import cli


def run_cli(*arguments: object, stdin: str | bytes = "", **environment: str) -> Result:
    """What `python main.py` tells; these names are set besides what the environment has."""
    return CliRunner().invoke(cli, [*map(str, arguments)], stdin, environment)
