"""Runs commands in this process, because starting Python takes longer than most commands."""

import signal

from click.testing import CliRunner, Result

from main import cli


def run_cli(*arguments: object, stdin: str | bytes = "", **environment: str) -> Result:
    """The result of `python main.py` with these arguments and additional environment variables."""
    return CliRunner().invoke(cli, [*map(str, arguments)], stdin, environment)


def handle_signals() -> None:
    """Handle the signals in a new process that the one of the tests may ignore, as by nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
