"""The command `serve`."""

import errno
import multiprocessing
import signal
import socket
import sys
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import click

from commands._banner import print_banner
from commands._help import Command
from commands._migrate_first import apply_migrations, check_schema_location
from commands._rollup_process import run_rollup_process
from commands._server import ServerConfig, raise_file_limit
from commands._settings import read_settings_and_log
from commands._workers import Workers
from common.metric_values import share_metrics
from config.database import connect
from config.database_errors import DatabaseUnavailable
from config.invocation import invocation
from config.logging import configure_logging
from config.settings import Settings, variable
from config.worker_slots import column_directory, slot_directory
from repo.api_keys import KeysRepo
from repo.columns.cache import COLUMN_CACHE, ColumnFolder
from repo.roles import ROLES
from services.container import may_be_open
from services.server_urls import servers
from utils.processes import DieWithParent

_EXIT_CODES = {
    0: "Ended by SIGINT (Ctrl-C) or SIGTERM.",
    1: "The service cannot start: one line on standard error gives the reason.",
    129: "Ended by SIGHUP.",
}


@click.command(
    cls=Command,
    settings=tuple(Settings.model_fields),
    exit_codes=_EXIT_CODES,
    ends_at_signals=False,
)
def serve() -> None:
    """Serve the HTTP API."""
    _exit_on_signals()
    settings = read_settings_and_log()
    raise_file_limit(settings)
    with servers(settings) as endpoints, _listen(settings) as listener:
        if not settings.database_url:
            apply_migrations(endpoints.database_url)
        check_schema_location(*map(endpoints.databases.url, ROLES), endpoints.database_url)
        state = _key_state(settings, endpoints.databases.url("reader"))
        port = listener.getsockname()[1]
        banner = partial(
            print_banner,
            settings,
            port,
            needs_key=state != "open",
            is_unreachable=state == "unreachable",
        )
        with (
            slot_directory() as slot_dir,
            column_directory() if settings.column_cache_bytes else nullcontext() as column_dir,
            run_rollup_process(slot_dir) if settings.rollup_worker else nullcontext(),
        ):
            _run(Workers(_Config(settings, slot_dir, column_dir), [listener], banner))


def _run(workers: Workers) -> None:
    """Run the workers until a signal stops them. Raises: click.ClickException."""
    try:
        workers.run()
    except OSError as exc:  # no memory, no file, no process left
        raise click.ClickException(f"workers cannot be started ({exc.strerror})") from None
    if workers.failure:
        raise click.ClickException(
            f"no worker starts; see the log. The last one: {workers.failure}"
        )


def _exit_on_signals() -> None:
    # A requested stop is not a failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def _listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises: click.ClickException."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as exc:
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used ({exc})"
        raise click.ClickException(
            f"{settings.host}:{settings.port} {reason}: set {variable('port')} to another port"
        ) from None


def _key_state(settings: Settings, database_url: str) -> Literal["open", "needed", "unreachable"]:
    """Whether requests need a key. "unreachable": unknown; they do until PostgreSQL is back.

    Raises: click.ClickException if keys are needed and there is none.
    """
    try:
        conn = connect(database_url, "analytics-serve")
    except DatabaseUnavailable:
        return "unreachable"
    with closing(conn):
        keys = KeysRepo(conn)
        if may_be_open(settings):
            return "needed" if keys.has_existed() else "open"
        if not keys.has_any():
            raise click.ClickException(
                "there is no API key, and only embedded servers on loopback work without one: "
                f"create one with `{invocation('keys create NAME --scope read')}`"
            )
    return "needed"


class _Config(ServerConfig):
    """The configuration of worker processes."""

    def __init__(self, settings: Settings, folder: Path, column_dir: Path | None) -> None:
        self._folder = folder
        self._column_dir = column_dir
        self._column_bytes = settings.column_cache_bytes
        self._logging = (settings.log_level, settings.log_format)
        self._dying = DieWithParent(signal.SIGTERM)
        super().__init__(
            settings,
            "main:create_app",
            factory=True,
        )

    def configure_logging(self) -> None:
        """Called first in each worker process."""
        super().configure_logging()
        configure_logging(*self._logging)
        if multiprocessing.parent_process():
            self._dying()
            share_metrics(self._folder)
            if self._column_dir:
                COLUMN_CACHE.share(ColumnFolder(self._column_dir, self._column_bytes))
