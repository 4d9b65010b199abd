"""The application (`create_app`) and the command line (`cli`)."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until a command runs, Ctrl-C ends the process: a KeyboardInterrupt within an import shows a
    # traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
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
    "serve", "migrate", "load", "export", "demo", "rollup", "verify", "erase", "retain", "adopt",
    "keys", "status", "check-upgrade",
)  # fmt: skip


def create_app(settings: "Settings | None" = None) -> "FastAPI":
    """The ASGI application. Connections are opened by its lifespan. Raises: SettingsError."""
    from fastapi_offline import FastAPIOffline  # slow to import, and only `serve` needs it

    from config.settings import load_settings
    from routes.app import configure_app

    # FastAPI's own traces contain paths, and paths contain user ids; see routes/instrumentation.py.
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
    configure_app(app, settings)
    app.state.send_traces = _trace_requests(app, settings) if settings.sends_traces else nullcontext
    return app


def _trace_requests(
    app: "FastAPI", settings: "Settings"
) -> Callable[[], AbstractContextManager[None]]:
    """Instrument the application; returns a context manager that sends the traces of a block."""
    from routes.instrumentation import instrument
    from services.trace_export import TraceExport

    export = TraceExport()
    instrument(app, export.provider, link_only=settings.trace_link_only)
    return partial(export.sending, settings.trace_timeout_s)


@asynccontextmanager
async def lifespan(app: "FastAPI") -> AsyncIterator[None]:
    """Raises: EmbeddedError."""
    from services.container import open_resources

    with app.state.send_traces():
        async with open_resources(app.state.settings) as resources:
            app.state.resources = resources
            gc.collect()
            gc.freeze()  # the collector need not scan what lives as long as the process
            yield


class _Commands(click.Group):
    """Imports only the module of the command that is called, which saves half a second."""

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
        """Raises: click.ClickException, with one line, for any error that ends a command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click prints these
        except KeyboardInterrupt:
            raise CommandInterrupted(signal.SIGINT) from None
        except ImportError as exc:
            raise click.ClickException(missing_package_message(exc)) from exc
        except Exception as exc:
            from commands._errors import failure

            raise failure(exc) from exc

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Like click's, but exits with 0 only if all output was written."""
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            if (reason := flush_output()) and not end.code:
                sys.exit(f"Error: standard output cannot be written: {reason}")
            raise
        except OSError as exc:  # raised while help is printed
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
