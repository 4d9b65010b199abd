"""Runs the service as in production, with two workers and a proxy before each of its servers."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg2
from psycopg2.extensions import connection

from tests.faults.http_load import Reply, ask_all
from tests.faults.proxy import Proxy, proxy_to
from tests.live_server import AUTHORIZED, METRICS_TOKEN, NO_CERTIFICATES
from tests.servers import as_role
from tests.wait_until import wait_until

ROOT = Path(__file__).parents[2]
WORKERS = 2
POOL = 5
DEADLINE_S = 5.0
ACQUIRE_S = 1.0
COUNTS = "/analytics/event-counts?start=2025-03-10&end=2025-03-12"
SCRAPER = {"Authorization": f"Bearer {METRICS_TOKEN}"}

_SETTINGS = {
    "ANALYTICS_PORT": "0",
    "ANALYTICS_WORKERS": str(WORKERS),
    "ANALYTICS_POOL_SIZE": str(POOL),
    "ANALYTICS_REQUEST_TIMEOUT_S": str(DEADLINE_S),
    "ANALYTICS_ACQUIRE_TIMEOUT_S": str(ACQUIRE_S),
    "ANALYTICS_RATE_LIMIT": "0",
    "ANALYTICS_CONCURRENCY_LIMIT": "0",
    "ANALYTICS_METRICS_TOKEN": METRICS_TOKEN,
}


@dataclass
class Service:
    """A running service, the proxies of its servers, and what can be observed from outside."""

    process: "subprocess.Popen[bytes]"
    database: Proxy
    cache: Proxy
    log: Path
    conn: connection
    port: int = 0
    headers: dict[str, str] = field(default_factory=lambda: dict(AUTHORIZED))

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Send a request over a new connection, so that any worker may answer."""
        return self._get(path, {**self.headers, **more}, timeout=30)

    def _get(self, path: str, headers: dict[str, str], *, timeout: float) -> httpx.Response:
        return httpx.get(self.base + path, headers=headers, timeout=timeout, verify=NO_CERTIFICATES)

    def ask_fresh(self, count: int, *, at_once: int, mark: str) -> list[Reply]:
        """Send `count` distinct queries, none of which is cached; `mark` makes them unique."""
        paths = [f"{COUNTS}&event={mark}{n}" for n in range(count)]
        return ask_all(self.port, paths, self.headers, at_once=at_once)

    def ask_repeatedly(self, count: int, *, at_once: int) -> list[Reply]:
        """Send the same query `count` times."""
        return ask_all(self.port, [COUNTS] * count, self.headers, at_once=at_once)

    def metrics(self) -> dict[str, float]:
        """The value of each series of /metrics."""
        page = self._get("/metrics", SCRAPER, timeout=10)
        assert page.status_code == 200, page.text
        lines = [line for line in page.text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def query(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        with self.conn.cursor() as cur:
            cur.execute(text, values or None)
            return cur.fetchall() if cur.description is not None else []

    def backends(self, more: str = "") -> list[int]:
        """The backend process ids of the sessions of the workers."""
        rows = self.query(
            "select pid from pg_stat_activity where datname = current_database() "
            "and application_name ~ '^analytics-[0-9]+$' " + more
        )
        return [pid for (pid,) in rows]

    def kill_backends(self, *pids: int) -> None:
        self.query("select pg_terminate_backend(pid) from unnest(%s::int[]) as p(pid)", list(pids))

    def worker_pids(self) -> list[int]:
        """The process ids of the workers."""
        return [pid for pid in self._children() if b"spawn_main" in _command(pid)]

    def rollup_worker_pids(self) -> list[int]:
        """The process id of the rollup worker; empty while it is restarted."""
        return [pid for pid in self._children() if b"rollup" in _command(pid).split(b"\0")]

    def _children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_until_folded(self) -> None:
        """Wait until all inserted events are folded, and every worker knows it."""
        is_folded = (
            "select 1 from fold_state where is_current and not exists ("
            "select from events where not pg_visible_in_snapshot(ingested_xid, snapshot))"
        )
        wait_until(lambda: bool(self.query(is_folded)), timeout_s=10)
        time.sleep(1)

    def is_ready(self) -> bool:
        try:
            return self._get("/readyz", {}, timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def service(
    database_url: str,
    redis_url: str,
    *,
    ready: bool = True,
    files: int | None = None,
    **settings: str,
) -> Iterator[Service]:
    """Run a service until the end of the block. `files` limits the open files of each process."""
    with (
        proxy_to(urlsplit(database_url).port or 5432) as database,
        proxy_to(urlsplit(redis_url).port or 6379) as cache,
        tempfile.TemporaryDirectory() as folder,
    ):
        log = Path(folder) / "log"
        proxied = proxied_url(database_url, database)
        urls = {
            "DATABASE_URL": proxied,
            "ANALYTICS_QUERY_DATABASE_URL": as_role(proxied, "reader"),
            "ANALYTICS_INGEST_DATABASE_URL": as_role(proxied, "writer"),
            "ANALYTICS_ROLLUP_DATABASE_URL": as_role(proxied, "rollup"),
            "REDIS_URL": proxied_url(redis_url, cache),
        }
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "main.py"), "serve"],
                env={**os.environ, **urls, **_SETTINGS, **settings},
                stdout=subprocess.PIPE,
                stderr=stderr,
                preexec_fn=partial(_limit_files, files) if files else None,
            )
        conn = psycopg2.connect(database_url)
        conn.autocommit = True
        running = Service(process, database, cache, log, conn)
        try:
            running.port = _port(process, log)
            if ready:
                wait_until(running.is_ready, timeout_s=20)
            yield running
        finally:
            _stop(process)
            conn.close()


def _limit_files(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def proxied_url(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.port}", f":{proxy.port}")


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if b"/docs" in line:
            return int(line.split(b":")[-1].split(b"/")[0])
    raise AssertionError(log.read_text())


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.stdout is not None
    process.stdout.close()
    process.wait()
