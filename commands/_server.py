"""The configuration of uvicorn: protocol, timeouts and the number of connections."""

import asyncio
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import uvicorn

from config.settings import Settings
from utils.accept_balancer import Loop

STOP_TIMEOUT_S = 7  # for requests in flight: orchestrators kill after 10 s
KEEP_ALIVE_S = 75  # longer than proxies keep theirs
_OTHER_FILES = 44
"""Open files of a worker beside connections: 34 for metrics, pipes, Redis and keys, and spare."""
_MIN_CONNECTIONS = 8


class ServerConfig(uvicorn.Config):
    """The configuration of one worker's server. Raises: click.ClickException."""

    def __init__(self, settings: Settings, app: Any, **options: Any) -> None:
        self._loop = partial(Loop, connection_limit(settings), in_turn=settings.workers > 1)
        super().__init__(
            app,
            http="routes.bounded_protocol:BoundedProtocol",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing depends on the address of the client
            # A request that was pipelined would otherwise begin in the trace of the previous one.
            reset_contextvars=True,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            **options,
        )

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        return self._loop


def raise_file_limit(settings: Settings) -> None:
    """Raise the soft limit of open files to the hard limit, for workers as well.

    Raises: click.ClickException if that is too few.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    connection_limit(settings)


def connection_limit(settings: Settings) -> int:
    """The number of client connections of a worker, bounded by the limit of open files.

    Raises: click.ClickException if too few remain.
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
    # A connection that is sent a file of /docs needs two open files.
    return min(settings.connection_limit, max((files - needed) // 2, _MIN_CONNECTIONS))
