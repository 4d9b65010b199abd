"""QueryAPIGate, which serves saved SQL as an API: here the tuned SQL, configured as its image."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.cases import QUESTIONS, Case, cases, query_texts
from bench.http_client import HttpConnection
from bench.serving import free_port, is_up, running
from bench.systems import Answer, from_rows
from tests.wait_until import wait_until

_KEY = {"X-API-Key": "the-key-of-the-benchmark"}
_CACHE_TTL_S = 86_400
_QUERY_TEXTS = query_texts("postgresql_tuned")


class Gate:
    """The server over HTTP, with one saved query per question and case."""

    def __init__(self, port: int, *, cached: bool) -> None:
        self.name = f"queryapigate http {'cached' if cached else 'uncached'}"
        self._connection = HttpConnection(port, _KEY)
        self._is_cached = cached

    def query_text(self, question: str, case: Case) -> str | None:
        return _QUERY_TEXTS(question, case)

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        self._connection.reopen("/health")
        request = self._connection.request(
            f"/q/{_query_name(question, case, self._is_cached)}?page_size=100"
        )
        if self._is_cached:
            self._connection.ask(request)
        return lambda: self._connection.ask(request)

    def read(self, question: str, answer: Any) -> Answer:
        rows = [list(row.values()) for row in json.loads(answer[1])]
        return from_rows(question, rows)


@contextmanager
def gates(database_url: str, folder: Path) -> Iterator[list[Gate]]:
    """One server with two sets of saved queries: uncached, and with its cache."""
    home = folder / "queryapigate"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    port = free_port()
    environment = {
        **os.environ,
        "QUERYAPIGATE_HOME": str(home),
        "QUERYAPIGATE_API_KEY": _KEY["X-API-Key"],
        "QUERYAPIGATE_QUERY_TIMEOUT": "900",
        "QUERYAPIGATE_ACCESS_LOG": "0",
    }
    with (home / "log").open("wb") as log, running(_command(port), environment, log.fileno()):
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_up(f"{base}/health"), timeout_s=60)
        _save(base, database_url)
        yield [Gate(port, cached=cached) for cached in (False, True)]


def _command(port: int) -> list[str]:
    words = f"-c python:queryapigate.gunicorn_conf --bind 127.0.0.1:{port} --workers 1"
    more = "--worker-class gthread --timeout 900 --keep-alive 900 --no-control-socket"
    app = "queryapigate.app:create_app()"
    return [sys.executable, "-m", "gunicorn", *words.split(), *more.split(), app]


def _save(base: str, database_url: str) -> None:
    parts = urlsplit(database_url)
    connection = {
        "name": "events",
        "db": "postgres",
        "host": parts.hostname,
        "port": parts.port,
        "database": parts.path[1:],
        "user": parts.username,
        "password": parts.password,
        "active": True,
    }
    with httpx.Client(base_url=f"{base}/api/v1", headers=_KEY) as client:
        client.post("/connections", json=connection).raise_for_status()
        for case in cases():
            for question in QUESTIONS:
                for cached in (False, True):
                    query = _query(question, case, cached)
                    client.post("/queries", json=query).raise_for_status()


def _query(question: str, case: Case, cached: bool) -> dict[str, Any]:
    return {
        "name": _query_name(question, case, cached),
        "sql": _QUERY_TEXTS(question, case),
        "connection_name": "events",
        "author": "bench",
        "description": question,
        "publish": True,
        **({"cache_ttl": _CACHE_TTL_S} if cached else {}),
    }


def _query_name(question: str, case: Case, cached: bool) -> str:
    names = [each.name for each in cases()]
    return f"{question}_{names.index(case.name)}{'_cached' if cached else ''}"
