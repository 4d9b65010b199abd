"""The application, and the entry to the commands."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import click

from config.settings import Settings, load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

COMMANDS = (
    "serve", "migrate", "load", "demo", "rollup", "verify", "erase", "retain", "adopt", "keys",
    "check-upgrade",
)  # fmt: skip


def create_app(settings: Settings | None = None) -> "FastAPI":
    """The service. Nothing is connected before its lifespan. Raises: SettingsError."""
    from fastapi_offline import FastAPIOffline  # no command needs it but serve

    from routes.door import open_door

    # What FastAPI traces by itself would have paths in it, and values of users in those.
    untraced = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPIOffline(
        title="Analytics Service", lifespan=lifespan, telemetry=untraced, redirect_slashes=False
    )
    settings = settings or load_settings()
    app.state.settings = settings
    open_door(app, settings.origins)
    return app


@asynccontextmanager
async def lifespan(app: "FastAPI") -> AsyncIterator[None]:
    """Raises: EmbeddedError."""
    from services.resources import open_resources

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
        found: click.Command = getattr(import_module(f"commands.{module}"), module)
        return found


@click.group(cls=_Commands)
def cli() -> None:
    """Exact, fresh answers about a platform's events."""


if __name__ == "__main__":
    cli()
