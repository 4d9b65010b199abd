"""The server of a worker process: uvicorn with limits on its connections."""

import asyncio
import resource
import socket
import time
from collections.abc import Callable
from typing import Any, cast

import click
import uvicorn

from commands._acceptor import Acceptor, Connection
from config.settings import Settings

STOP_TIMEOUT_S = 7  # for requests in flight: orchestrators kill after 10 s
KEEP_ALIVE_S = 75  # longer than proxies keep theirs
_OTHER_FILES = 44
"""Open files of a worker beside connections: 34 for metrics, pipes, Redis and keys, and spare."""
_MIN_CONNECTIONS = 8
_FIRST_REQUEST_S = 0.3  # with the other timeouts of a stop, below the 9 s of `Worker.terminate`
_POLL_S = 0.02
_TICKS_PER_CHECK = 10  # so connections are checked every second


class ServerConfig(uvicorn.Config):
    """The configuration of one worker's server. Raises: click.ClickException."""

    def __init__(self, settings: Settings, app: Any, **options: Any) -> None:
        self.connection_limit = connection_limit(settings)
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
            workers=settings.workers,
            **options,
        )


class Server(uvicorn.Server):
    """A server that limits the number of its connections, and how long they wait for clients."""

    config: ServerConfig
    ticked_at = 0.0
    """When the event loop last ran, on the monotonic clock."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # uvicorn itself does not listen
        self._acceptors = [self._acceptor(sock) for sock in sockets or []]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            await acceptor.close()
        await self._wait_for_first_requests()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn every 0.1 s."""
        self.ticked_at = time.monotonic()
        if counter % _TICKS_PER_CHECK == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                connection.check(now)
        return await super().on_tick(counter)

    async def _wait_for_first_requests(self) -> None:
        """Wait until the newest connections have sent their requests, for 0.3 s at most."""
        # uvicorn closes connections without a request at once, also those accepted a moment ago.
        loop = asyncio.get_running_loop()
        end = loop.time() + _FIRST_REQUEST_S
        while (now := loop.time()) < end and any(
            each.is_active and now - _FIRST_REQUEST_S < each.waiting_since <= now
            for each in self._connections
        ):
            await asyncio.sleep(_POLL_S)

    @property
    def _connections(self) -> set[Connection]:
        return cast(set[Connection], self.server_state.connections)

    def _acceptor(self, sock: socket.socket) -> Acceptor:
        return Acceptor(
            sock,
            self._create_protocol,
            self._connections,
            limit=self.config.connection_limit,
            workers=self.config.workers,
        )

    def _create_protocol(self) -> asyncio.Protocol:
        create: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return create(self.config, self.server_state, self.lifespan.state)


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
