"""Print the result of a command exactly once, however the command ends."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from signal import SIGPIPE

import click

from utils.signals import uninterrupted


class OutputLost(SystemExit):
    """Standard output cannot be written: its reader has closed it, or the disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(128 + SIGPIPE if error.errno == errno.EPIPE else 1)


def print_result(text: str | bytes, *, fallback: str | None = None) -> None:
    """Print to standard output; if that fails, print `fallback` or the text to standard error.

    Raises: OutputLost if standard output failed.
    """
    try:
        click.echo(text)
    except OSError as exc:
        _discard_output()
        print_error(text if fallback is None else fallback)
        print_error(f"Error: standard output cannot be written: {exc.strerror}")
        raise OutputLost(exc) from exc


def print_error(text: str | bytes) -> None:
    """Print to standard error; a closed standard error is ignored."""
    with suppress(OSError):
        click.echo(text, err=True)


@contextmanager
def report(summary: Callable[[], str], interrupted_hint: str = "") -> Iterator[None]:
    """Print a summary of the block, also when a signal or an error ends it.

    `summary` is called once, at the end, and may return an empty text. `interrupted_hint` is
    printed to standard error if the block did not finish.
    """
    try:
        yield
    except BaseException:
        with uninterrupted():
            with suppress(OutputLost):
                _print_nonempty(summary())
            if interrupted_hint:
                print_error(interrupted_hint)
            raise
    with uninterrupted():
        _print_nonempty(summary())


def _print_nonempty(text: str) -> None:
    if text:
        print_result(text)


def _discard_output() -> None:
    # Buffered text would raise again when the interpreter flushes it at exit.
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
