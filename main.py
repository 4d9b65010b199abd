"""The application, and the entry to the commands."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Imports would swallow a KeyboardInterrupt, or show where it came.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from utils.missing_packages import missing_package_message
from utils.signals import CommandInterrupted, handle_sigterm_as_init
from utils.streams import flush_output, open_closed_streams
from utils.version import version

try:
    import click
except ImportError as exc:
    sys.exit(f"Error: {missing_package_message(exc)}")

if TYPE_CHECKING:
    from fastapi import FastAPI

    from config.settings import Settings

COMMANDS = (
    "serve", "migrate", "load", "demo", "rollup", "verify", "erase", "retain", "adopt", "keys",
    "status", "check-upgrade",
)  # fmt: skip


def create_app(settings: "Settings | None" = None) -> "FastAPI":
    """The service. Nothing is connected before its lifespan. Raises: SettingsError."""
    from fastapi_offline import FastAPIOffline  # no command needs it but serve

    from config.settings import load_settings
    from routes.app import configure_app

    # What FastAPI traces by itself would have paths in it, and values of users in those.
    untraced = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPIOffline(
        title="Analytics Service",
        version=version(),
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        telemetry=untraced,
        redirect_slashes=False,
    )
    settings = settings or load_settings()
    app.state.settings = settings
    configure_app(app, settings.origins)
    return app


@asynccontextmanager
async def lifespan(app: "FastAPI") -> AsyncIterator[None]:
    """Raises: EmbeddedError."""
    from services.container import open_resources

    async with open_resources(app.state.settings) as resources:
        app.state.resources = resources
        gc.collect()
        gc.freeze()  # what is there stays: looking through it again would hold up requests
        yield


class _Commands(click.Group):
    """Only the command that is called is loaded: all of them take longer than most have to do."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = name.replace("-", "_")
        command: click.Command = getattr(import_module(f"commands.{module}"), module)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Raises: click.ClickException, whose one line tells of any error that ends a command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click tells these
        except KeyboardInterrupt:
            raise CommandInterrupted(signal.SIGINT) from None
        except ImportError as exc:
            raise click.ClickException(missing_package_message(exc)) from exc
        except Exception as exc:
            from commands._errors import failure

            raise failure(exc) from exc

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's, which ends the process: with 0 only when all that was printed is written."""
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            if (reason := flush_output()) and not end.code:
                sys.exit(f"Error: standard output cannot be written: {reason}")
            raise
        except OSError as exc:  # of what prints help
            flush_output()
            sys.exit(f"Error: standard output cannot be written: {exc.strerror}")


@click.group(cls=_Commands)
@click.version_option(version(), prog_name="Analytics Service", message="%(prog)s %(version)s")
def cli() -> None:
    """Exact, fresh answers about a platform's events.

    COMMAND --help names the settings that a command reads and what its exit codes mean.
    """


if __name__ == "__main__":
    open_closed_streams()
    handle_sigterm_as_init()
    cli()
