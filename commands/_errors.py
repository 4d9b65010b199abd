"""Errors of commands: one line on standard error, never a traceback."""

import traceback

import click

from common.decorators import DriverError, driver_message
from config.database_errors import DatabaseError
from config.settings import SettingsError, is_debugging, variable
from repo.migrate import MigrationError
from services.embedded import EmbeddedError
from utils.missing_packages import missing_package_message

_EXPECTED = (SettingsError, DatabaseError, MigrationError)


class Failure(click.ClickException):
    """One line on standard error; the log level `debug` puts the traceback before it."""

    def show(self, file: object = None) -> None:
        if is_debugging() and self.__cause__:
            click.echo("".join(traceback.format_exception(self.__cause__)), err=True)
        super().show()


class Unexpected(Failure):
    """An error in the program itself; the exit code is that of sysexits.h for it."""

    exit_code = 70


def failure(exc: Exception) -> Failure:
    """The error to show for an exception that ended a command."""
    if isinstance(exc, _EXPECTED):
        return Failure(_on_one_line(str(exc)) or _reason(exc))
    if isinstance(exc, EmbeddedError):  # it may show the end of a server's log
        return Failure(str(exc))
    if isinstance(exc, DriverError):
        return Failure(_reason(exc))
    if isinstance(exc, ImportError):
        return Failure(missing_package_message(exc))
    if isinstance(exc, OSError):
        return Failure(_about_file(exc))
    if isinstance(exc, UnicodeError):
        return Failure("an argument or an input is not UTF-8")
    return Unexpected(
        f"unexpected {type(exc).__name__}, a bug in this program: run the command with "
        f"{variable('log_level')}=debug for a traceback"
    )


def _reason(exc: BaseException) -> str:
    """For an exception without a text: the message of the driver, else its docstring."""
    driver = exc if isinstance(exc, DriverError) else exc.__cause__
    if isinstance(driver, DriverError):
        return f"PostgreSQL: {_on_one_line(driver_message(driver))}"
    return _on_one_line(type(exc).__doc__ or type(exc).__name__)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _about_file(exc: OSError) -> str:
    reason = exc.strerror or type(exc).__name__
    return f"{exc.filename}: {reason}" if exc.filename else f"input or output failed: {reason}"
