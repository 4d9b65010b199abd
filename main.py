"""The application, and the entry to the commands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from commands.demo import demo
from commands.load import load
from commands.migrate import migrate
from commands.serve import serve
from common.metrics import published
from config.settings import Settings, load_settings
from routes.door import open_door
from services.resources import open_resources


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service. Nothing is connected before its lifespan. Raises: SettingsError."""
    app = FastAPIOffline(title="Analytics Service", lifespan=lifespan)
    app.state.settings = settings or load_settings()
    open_door(app)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Raises: EmbeddedError."""
    async with open_resources(app.state.settings) as resources:
        app.state.resources = resources
        with published(resources.database):
            yield


@click.group()
def cli() -> None:
    """Exact, fresh answers about a platform's events."""


for command in (serve, migrate, load, demo):
    cli.add_command(command)

if __name__ == "__main__":
    cli()
