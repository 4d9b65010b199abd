"""How uvicorn is run: what it reads, for how long it waits, and how many connections it has."""

import asyncio
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import uvicorn

from config.settings import Settings
from utils.turns import Loop

STOP_WITHIN_S = 7  # for requests in flight; after 10 the whole service is gone
KEEP_ALIVE_S = 75  # longer than proxies keep theirs
_OTHER_FILES = 44
"""Of a worker: 34 for metrics, pipes, Redis and keys, and some that are open for a moment."""
_FEWEST_CONNECTIONS = 8


class ServerConfig(uvicorn.Config):
    """The server of one worker. Raises: click.ClickException."""

    def __init__(self, settings: Settings, app: Any, **more: Any) -> None:
        self._loop = partial(Loop, connection_limit(settings), in_turn=settings.workers > 1)
        super().__init__(
            app,
            http="routes.protocol:BoundedProtocol",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on who forwards
            timeout_graceful_shutdown=STOP_WITHIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            **more,
        )

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        return self._loop


def allow_files(settings: Settings) -> None:
    """As many open files as the system lets this process and its children have.

    Raises: click.ClickException, where these are too few.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connection_limit(settings)


def connection_limit(settings: Settings) -> int:
    """The connections of clients that a worker may have: it needs files for other things as well.

    Raises: click.ClickException.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return settings.connection_limit
    needed = settings.pool_size + settings.ingest_pool_size + _OTHER_FILES
    if files < needed + _FEWEST_CONNECTIONS:
        raise click.ClickException(
            f"a worker may open {files} files, and needs {needed + _FEWEST_CONNECTIONS}: "
            "raise the limit (ulimit -n), or use smaller pools"
        )
    # A file of /docs is open for as long as it is sent: a connection may need two.
    return min(settings.connection_limit, max((files - needed) // 2, _FEWEST_CONNECTIONS))
