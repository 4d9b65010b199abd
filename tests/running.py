"""The service as it runs for its users: uvicorn on a socket."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from config.settings import Settings
from main import create_app


@contextmanager
def running(database_url: str, redis_url: str, **more: Any) -> Iterator[httpx.Client]:
    """A client of a service of its own, with these settings."""
    app = create_app(
        Settings(
            DATABASE_URL=SecretStr(database_url),
            REDIS_URL=SecretStr(redis_url),
            **more,
        )
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _wait_until_started(server, thread)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the service stopped while it started"
        assert time.monotonic() < deadline, "the service did not start in time"
        time.sleep(0.005)
