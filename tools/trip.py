"""Count the source files that a request walks through: `.venv/bin/python -m tools.trip`.

Starts the service with embedded servers in a temporary folder, stores one event, and calls the
application in this process with a profiler. For each request it prints the files of the project
that its calls enter, and how often the chain of calls changes from one file to another: the fewer,
the easier a reader follows a request.
"""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
COUNTS = "/analytics/event-counts?start=2025-01-01&end=2026-0{}-01&interval=month"
EVENT = b"""{"event_name": "page_view", "user_id": "u_1", "occurred_at": "2025-03-01T00:00:00Z",
             "event_id": "00000000-0000-4000-8000-000000000001"}"""
_OTHER_FOLDERS = (".venv", "tests", "tools")
_READY_TIMEOUT_S = 60
# An answer that reads the tail as well enters other files.
_FOLDED_AFTER_S = 3
_ROUNDS = 3


class Request(NamedTuple):
    """One request, and the name under which its figures are printed.

    `{}` in the target is replaced by the number of the round, so that each round is uncached.
    """

    name: str
    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Trip(NamedTuple):
    """The status of a request, and the figures of its walk through the code."""

    status: int
    files: int
    """Different files that were entered."""
    changes: int
    """How often the chain of calls went from one file to another."""


REQUESTS = (
    Request("event-counts, uncached", "GET", COUNTS),
    Request("event-counts, cached", "GET", COUNTS),
    Request("event-counts, no-cache", "GET", COUNTS, headers=(("cache-control", "no-cache"),)),
    Request("history, uncached", "GET", "/analytics/users/u_1/events?limit={}"),
    Request("POST /events", "POST", "/events", b'{"event_name": "page_view", "user_id": "u_2"}'),
)


# Differs in each request, and is inherited by its tasks and threads: so the calls of background
# tasks, and of tasks that the last request has cancelled, are not recorded.
_REQUEST: ContextVar[object] = ContextVar("request", default=None)


class Recorder:
    """Records the file of each call of the project's own code for a request, in all threads."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._request: object = self

    def __call__(self, frame: FrameType, kind: str, _: Any) -> None:
        if kind == "call" and _REQUEST.get() is self._request:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT):
                relative = path.relative_to(ROOT)
                if relative.parts[0] not in _OTHER_FOLDERS:
                    self.files.append(relative.as_posix())

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.files.clear()
        self._request = object()
        token = _REQUEST.set(self._request)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            _REQUEST.reset(token)
            self._request = self

    def trip(self, status: int) -> Trip:
        runs = [file for file, _ in itertools.groupby(self.files)]
        return Trip(status, len(set(runs)), len(runs))


def trips() -> dict[str, Trip]:
    """The trip of each of `REQUESTS`, by its name."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Embedded PostgreSQL runs as another user where this process is root.
        os.chmod(folder, 0o755)
        data_dir = Path(folder) / "servers"
        data_dir.mkdir()
        os.environ["ANALYTICS_DATA_DIR"] = str(data_dir)
        for name in ("DATABASE_URL", "REDIS_URL"):
            os.environ.pop(name, None)
        with _service():
            result = asyncio.run(_trips())
        _wait_until_stopped(data_dir)
        return result


@contextmanager
def _service() -> Iterator[None]:
    """`serve` as a process of its own: it starts the servers, migrates, and folds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "main.py", "serve"],
        cwd=ROOT,
        env={**os.environ, "ANALYTICS_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(port)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"`serve` was not ready within {_READY_TIMEOUT_S} s")


def _wait_until_stopped(data_dir: Path) -> None:
    # The supervisor of the embedded servers stops them after `serve`, their last user, has ended.
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while any(data_dir.rglob("postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.1)


async def _trips() -> dict[str, Trip]:
    recorder = Recorder()
    threading.setprofile(recorder)  # of the threads that the application starts
    async with _application() as app:
        await _send(app, Request("", "POST", "/events", EVENT))
        await asyncio.sleep(_FOLDED_AFTER_S)
        rounds = [await _round(app, recorder, number + 1) for number in range(_ROUNDS)]
    # Connections that have to be replaced, and the like, only add to the figures of a request.
    return {
        name: Trip(
            max(trips[name].status for trips in rounds),
            min(trips[name].files for trips in rounds),
            min(trips[name].changes for trips in rounds),
        )
        for name in rounds[0]
    }


async def _round(app: Any, recorder: Recorder, number: int) -> dict[str, Trip]:
    result = {}
    for request in REQUESTS:
        target = request.target.format(number)
        with recorder.recording():
            status = await _send(app, request._replace(target=target))
        result[request.name] = recorder.trip(status)
    return result


@asynccontextmanager
async def _application() -> AsyncIterator[Any]:
    from main import create_app  # after the environment is set: it reads the settings

    app = create_app()
    async with app.router.lifespan_context(app):
        yield app


async def _send(app: Any, request: Request) -> int:
    """The status with which the application answers."""
    messages: list[dict[str, Any]] = []
    incoming = [{"type": "http.request", "body": request.body, "more_body": False}]
    is_sent = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await is_sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_sent.set()

    await app(_scope(request), receive, send)
    status: int = messages[0]["status"]
    return status


def _scope(request: Request) -> dict[str, Any]:
    path, _, query = request.target.partition("?")
    headers = [("host", "127.0.0.1"), *request.headers]
    if request.body:
        headers += [
            ("content-type", "application/json"),
            ("content-length", str(len(request.body))),
        ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


def main() -> None:
    print(f"{'request':24} {'status':>6} {'files':>6} {'changes':>8}")
    for name, trip in trips().items():
        print(f"{name:24} {trip.status:>6} {trip.files:>6} {trip.changes:>8}")


if __name__ == "__main__":
    main()
