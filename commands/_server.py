"""How uvicorn is run: what it reads, for how long it waits, and how many connections it has."""

import asyncio
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import uvicorn

from config.settings import Settings
from utils.accept_balancer import Loop

STOP_TIMEOUT_S = 7  # for requests in flight; after 10 the whole service is gone
KEEP_ALIVE_S = 75  # longer than proxies keep theirs
_OTHER_FILES = 44
"""Of a worker: 34 for metrics, pipes, Redis and keys, and some that are open for a moment."""
_MIN_CONNECTIONS = 8


class ServerConfig(uvicorn.Config):
    """The server of one worker. Raises: click.ClickException."""

    def __init__(self, settings: Settings, app: Any, **options: Any) -> None:
        self._loop = partial(Loop, connection_limit(settings), in_turn=settings.workers > 1)
        super().__init__(
            app,
            http="routes.bounded_protocol:BoundedProtocol",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on who forwards
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            **options,
        )

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        return self._loop


def raise_file_limit(settings: Settings) -> None:
    """As many open files as the system lets this process and its children have.

    Raises: click.ClickException, where these are too few.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    connection_limit(settings)


def connection_limit(settings: Settings) -> int:
    """The connections of clients that a worker may have: it needs files for other things as well.

    Raises: click.ClickException.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return settings.connection_limit
    needed = settings.pool_size + settings.ingest_pool_size + _OTHER_FILES
    if files < needed + _MIN_CONNECTIONS:
        raise click.ClickException(
            f"a worker may open {files} files, and needs {needed + _MIN_CONNECTIONS}: "
            "raise the limit (ulimit -n), or use smaller pools"
        )
    # A file of /docs is open for as long as it is sent: a connection may need two.
    return min(settings.connection_limit, max((files - needed) // 2, _MIN_CONNECTIONS))
