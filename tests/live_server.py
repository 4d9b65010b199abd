"""Runs the service with uvicorn on a socket, in a thread of this process."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import psycopg2
from fastapi import FastAPI
from pydantic import SecretStr

from commands._server import Server, ServerConfig
from config.settings import Settings
from main import create_app
from repo.database_identity import read_identity
from tests.servers import KEY, as_role

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
METRICS_TOKEN = "the-token-of-the-tests"
# Without it httpx reads the certificates of the system for each client, though none uses TLS.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

_DEFAULTS: dict[str, Any] = {
    "metrics_token": SecretStr(METRICS_TOKEN),
    "rate_limit": 0,
    "concurrency_limit": 0,
}
_URLS: WeakKeyDictionary[httpx.Client, str] = WeakKeyDictionary()
_APPS: WeakKeyDictionary[httpx.Client, FastAPI] = WeakKeyDictionary()


@contextmanager
def running(database_url: str, redis_url: str, **more: Any) -> Iterator[httpx.Client]:
    """Run a service with these settings and its database roles; yields a client."""
    roles = {
        "query_database_url": SecretStr(as_role(database_url, "reader")),
        "ingest_database_url": SecretStr(as_role(database_url, "writer")),
    }
    settings = Settings(
        DATABASE_URL=SecretStr(database_url),
        REDIS_URL=SecretStr(redis_url),
        **{**roles, **_DEFAULTS, **more},
    )
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(settings)
    server = Server(ServerConfig(settings, app))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        _wait_until_started(server, thread)
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(
            base_url=base, headers=AUTHORIZED, timeout=30, verify=NO_CERTIFICATES
        ) as client:
            _URLS[client], _APPS[client] = database_url, app
            yield client
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_started(server: Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the service stopped while it started"
        assert time.monotonic() < deadline, "the service did not start in time"
        time.sleep(0.005)


def app_of(service: httpx.Client) -> FastAPI:
    """The application that serves this client."""
    return _APPS[service]


def identity_in(database_url: str) -> str:
    """The identity of a migrated database; "" if it is not migrated."""
    with closing(psycopg2.connect(database_url)) as conn, conn.cursor() as cur:
        return read_identity(cur) or ""


def identity_of(service: httpx.Client) -> str:
    """The identity that this service uses in its cache keys."""
    return identity_in(_URLS[service])


def scrape(service: httpx.Client) -> str:
    """The text of /metrics."""
    page = service.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert page.status_code == 200, page.text
    return page.text


def value(page: str, series: str) -> float:
    """The value of a series; 0 if it does not exist yet."""
    lines = [line for line in page.splitlines() if line.startswith(series + " ")]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0
