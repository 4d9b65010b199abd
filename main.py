"""The application, and the entry to the commands."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from commands.adopt import adopt
from commands.demo import demo
from commands.erase import erase
from commands.keys import keys
from commands.load import load
from commands.migrate import migrate
from commands.retain import retain
from commands.rollup import rollup
from commands.serve import serve
from commands.verify import verify
from config.settings import Settings, load_settings
from routes.door import open_door
from services.resources import open_resources


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service. Nothing is connected before its lifespan. Raises: SettingsError."""
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
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Raises: EmbeddedError."""
    async with open_resources(app.state.settings) as resources:
        app.state.resources = resources
        gc.collect()
        gc.freeze()  # what is there stays: looking through it again would hold up requests
        yield


@click.group()
def cli() -> None:
    """Exact, fresh answers about a platform's events."""


for command in (serve, migrate, load, demo, rollup, verify, erase, retain, adopt, keys):
    cli.add_command(command)

if __name__ == "__main__":
    cli()
