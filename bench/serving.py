"""Run the service as in production, with `python main.py serve`, but without limits."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg2

from bench.cases import TIME_ZONES
from config.settings import Settings
from repo.api_keys import KeysRepo
from services.api_key_secrets import digest_of
from tests.live_server import METRICS_TOKEN
from tests.servers import KEY
from tests.wait_until import wait_until

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300
"""So long that no query of the benchmark is rejected for being slow."""

_SETTINGS = {
    "ANALYTICS_REQUEST_TIMEOUT_S": str(TIMEOUT_S),
    "ANALYTICS_ACQUIRE_TIMEOUT_S": "60",
    "ANALYTICS_RATE_LIMIT": "0",
    "ANALYTICS_CONCURRENCY_LIMIT": "0",
    "ANALYTICS_METRICS_TOKEN": METRICS_TOKEN,
    "ANALYTICS_LOG_LEVEL": "error",
}


def zones(name: str) -> dict[str, str]:
    """The setting that declares time zones, if this version of the service has it."""
    return {name: ",".join(TIME_ZONES)} if "time_zones" in Settings.model_fields else {}


def command(database_url: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of a command of the service."""
    environment = {
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT / "bench/without_pandas"),
        **zones("ANALYTICS_TIME_ZONES"),
    }
    return [sys.executable, str(ROOT / "main.py"), *words], {**os.environ, **environment}


def run(database_url: str, *words: str) -> None:
    """Run a command of the service, and wait for its end."""
    arguments, environment = command(database_url, *words)
    subprocess.run(arguments, env=environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(
    database_url: str,
    redis_url: str,
    log: Path,
    workers: int = 2,
    settings: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a service until the end of the block; yields its port once it is ready."""
    port = free_port()
    arguments, environment = command(database_url, "serve")
    process_settings = {"ANALYTICS_PORT": str(port), "ANALYTICS_WORKERS": str(workers)}
    more = {"REDIS_URL": redis_url, **process_settings, **_SETTINGS, **(settings or {})}
    with (
        log.open("wb") as log_file,
        running(arguments, {**environment, **more}, log_file.fileno()) as process,
    ):
        wait_until(lambda: _is_ready(process, f"http://127.0.0.1:{port}/readyz"), timeout_s=60)
        yield port


@contextmanager
def running(
    arguments: list[str], environment: dict[str, str], log: int
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process, and stop it at the end of the block."""
    process = subprocess.Popen(
        arguments, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _is_ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    assert process.poll() is None, "the service stopped while it started: see its log"
    return is_up(url)


def make_key(database_url: str) -> None:
    """Store KEY with the scopes to query and to send events."""
    conn = psycopg2.connect(database_url)
    KeysRepo(conn).create("bench", digest_of(KEY), KEY[:8], ["read", "write"])
    conn.close()
