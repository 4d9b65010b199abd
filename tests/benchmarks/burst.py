"""What a very large COPY does to those who ask: `python -m tests.benchmarks.burst --rows 10000000`.

All rows come in one transaction. From its commit until the last of them is folded questions about
all of them are asked over HTTP, one after the other, with the timeouts that the service has unless
told otherwise.
"""

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import click
import httpx

from repo.migrate import migrate, migrations
from services.embedded import embedded_servers
from tests.benchmarks.event_set import END, START, days_of_events
from tests.benchmarks.serving import make_key, serving
from tests.benchmarks.store import connected, copy, execute
from tests.running import AUTHORIZED, METRICS_TOKEN
from tests.servers import url_of

_BEFORE = 300_000
"""Events that are there and folded when the others come."""
_LAST_DAY = END.date().isoformat()
_QUESTIONS = {
    "events per day": "event-counts?interval=day&",
    "top 10": "top-events?",
    "unique users": "event-counts?",
    "active users": "active-users?",
}
_GIVE_UP_S = 300


@click.command()
@click.option("--rows", default=10_000_000, show_default=True)
def main(rows: int) -> None:
    """Tell how long answers took, and how many there were of each status."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-burst-"))
    folder.chmod(0o711)
    try:
        with embedded_servers(folder) as endpoints:
            execute(endpoints.database_url, "create database burst")
            url = url_of(endpoints.database_url, "burst")
            _fill(url, _BEFORE, seed=2)
            make_key(url)
            own = {"ANALYTICS_REQUEST_TIMEOUT_S": "10", "ANALYTICS_ACQUIRE_TIMEOUT_S": "1"}
            log = folder / "service.log"
            with serving(url, endpoints.redis_url, log, settings=own) as port:
                _burst(url, port, rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _burst(url: str, port: int, rows: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        _wait_until_folded(client)
        with _asking(client) as told:
            began = time.monotonic()
            _fill(url, rows, seed=1)
            click.echo(f"copied {rows:,} rows in {time.monotonic() - began:.0f} s; meanwhile:")
        _tell(told)
        with _asking(client) as told, httpx.Client(base_url=client.base_url) as other:
            began = time.monotonic()
            time.sleep(1)
            most = _wait_until_folded(other)
            click.echo(
                f"folded in {time.monotonic() - began:.0f} s, "
                f"with at most {most / 2**20:,.0f} MB in one process; meanwhile:"
            )
        _tell(told)


def _fill(url: str, rows: int, seed: int) -> None:
    """In one transaction."""
    with connected(url) as conn:
        conn.autocommit = False
        migrate(conn, migrations())
        for table in days_of_events(rows, seed):
            copy(conn, table)
        conn.commit()


Told = dict[str, list[tuple[int, float]]]
"""By question: statuses, and milliseconds."""


@contextmanager
def _asking(client: httpx.Client) -> Iterator[Told]:
    told: Told = {question: [] for question in _QUESTIONS}
    is_over = Event()

    def ask() -> None:
        while not is_over.wait(0.1):
            for question, address in _QUESTIONS.items():
                began = time.monotonic()
                status = _ask(client, address)
                told[question].append((status, (time.monotonic() - began) * 1000))

    thread = Thread(target=ask)
    thread.start()
    try:
        yield told
    finally:
        is_over.set()
        thread.join()


def _ask(client: httpx.Client, address: str) -> int:
    asked = f"/analytics/{address}start={START.date()}&end={_LAST_DAY}"
    return client.get(asked, headers={**AUTHORIZED, "Cache-Control": "no-cache"}).status_code


def _tell(told: Told) -> None:
    for question, answers in told.items():
        statuses = sorted({status for status, _ in answers})
        counts = ", ".join(
            f"{sum(s == status for s, _ in answers)} x {status}" for status in statuses
        )
        slowest = max((ms for _, ms in answers), default=0)
        click.echo(f"  {question}: {counts}; the slowest took {slowest:,.0f} ms")


def _wait_until_folded(client: httpx.Client) -> float:
    """The most bytes that a process of the service had in the meantime. Raises: TimeoutError."""
    end, most = time.monotonic() + _GIVE_UP_S, 0.0
    while time.monotonic() < end:
        shown = _metrics(client)
        most = max(most, *shown["process_resident_memory_bytes"])
        if shown["analytics_tail_seconds"] == [0]:
            return most
        time.sleep(0.5)
    raise TimeoutError


def _metrics(client: httpx.Client) -> dict[str, list[float]]:
    """By name; those of processes are of the workers and of the folder."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    found = defaultdict(list)
    for line in client.get("/metrics", headers=headers).text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.partition("{")[0]].append(float(value))
    return found


if __name__ == "__main__":
    main()
