"""python main.py serve"""

import errno
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from typing import Literal

import click
from uvicorn.supervisors import Multiprocess

from commands._banner import print_banner
from commands._folder import folding
from commands._prepare import prepare, refuse_foreign_tables
from commands._server import STOP_WITHIN_S, ServerConfig, allow_files
from config.database import connect
from config.failures import DatabaseUnavailable
from config.invocation import invocation
from config.logging import configure_logging
from config.settings import Settings, load_settings, variable
from config.workers import places
from repo.api_keys import KeysRepo
from services.resources import may_be_open
from services.servers import servers
from utils.processes import DyingWithParent

_SIGN_OF_LIFE_WITHIN_S = 3


@click.command()
def serve() -> None:
    """Answer questions over HTTP."""
    _stop_when_told()
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    allow_files()
    config = _Config(settings)
    with servers(settings) as endpoints, _listen(settings) as listening:
        if not settings.database_url:
            prepare(endpoints.database_url)
        refuse_foreign_tables(endpoints.databases.url("reader"))
        state = _state_of_keys(settings, endpoints.databases.url("reader"))
        port = listening.getsockname()[1]
        banner = partial(
            print_banner, settings, port, needs_key=state != "open", is_away=state == "away"
        )
        with places(), folding() if settings.folder else nullcontext():
            _Workers(config, [listening], banner).run()


def _stop_when_told() -> None:
    """Being told to stop is no failure."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def _listen(settings: Settings) -> socket.socket:
    """Take the address before anything is told about it. Raises: click.ClickException."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as exc:
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used ({exc})"
        raise click.ClickException(
            f"{settings.host}:{settings.port} {reason}: set {variable('port')} to another port"
        ) from None


def _state_of_keys(settings: Settings, database_url: str) -> Literal["open", "needed", "away"]:
    """A database that is away cannot tell; then all are asked for keys until it can.

    Raises: click.ClickException where a key is needed and there is none.
    """
    try:
        conn = connect(database_url, "analytics-serve")
    except DatabaseUnavailable:
        return "away"
    with closing(conn):
        keys = KeysRepo(conn)
        if may_be_open(settings):
            return "needed" if keys.has_ever() else "open"
        if not keys.has_any():
            raise click.ClickException(
                "there is no API key, and only embedded servers on loopback answer without: "
                f"create one with `{invocation('keys create NAME --scope read')}`"
            )
    return "needed"


class _Config(ServerConfig):
    """How workers are run."""

    def __init__(self, settings: Settings) -> None:
        self._logging = (settings.log_level, settings.log_format)
        self._dying = DyingWithParent(signal.SIGTERM)
        super().__init__(
            settings,
            "main:create_app",
            factory=True,
            workers=settings.workers,
            # A worker that dies while it is asked for a sign of life is missed for so long.
            timeout_worker_healthcheck=_SIGN_OF_LIFE_WITHIN_S,
        )

    def configure_logging(self) -> None:
        """The first thing that a new worker does."""
        super().configure_logging()
        configure_logging(*self._logging)
        if multiprocessing.parent_process():
            self._dying()


class _Workers(Multiprocess):
    """Starts the workers, replaces those that die, and stops them all."""

    def __init__(
        self, config: ServerConfig, sockets: list[socket.socket], when_ready: Callable[[], None]
    ) -> None:
        """`when_ready` is called once, when all workers answer."""
        super().__init__(config, sockets)
        self._when_ready: Callable[[], None] | None = when_ready

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if self._when_ready and all(process.is_ready(timeout=1) for process in self.processes):
            self._when_ready()
            self._when_ready = None

    def join_all(self) -> None:
        """Whoever does not stop in time is ended."""
        deadline = time.monotonic() + STOP_WITHIN_S + 2
        for process in self.processes:
            process.process.join(max(0, deadline - time.monotonic()))
            if process.process.is_alive():
                process.process.kill()
                process.process.join()
