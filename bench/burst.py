"""Measure queries during and after a very large COPY: `python -m bench.burst --rows 10000000`.

All rows are written in one transaction. From its start until the last row is folded, queries about
all events are sent over HTTP, one after another, with the default timeouts of the service. The
figures are in docs/decisions/0033-find-the-tail-by-transaction-id.md.
"""

import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import click
import httpx

from bench.event_set import END, START, days_of_events
from bench.serving import make_key, serving
from bench.stored_set import copy, execute
from repo.migrate import migrate, migrations
from services.embedded import embedded_servers
from tests.live_server import AUTHORIZED, METRICS_TOKEN
from tests.servers import url_of
from tests.source_comparison import connected

_ROWS_BEFORE = 300_000
"""Events that exist and are folded before the COPY."""
_LAST_DAY = END.date().isoformat()
_QUESTIONS = {
    "events per day": "event-counts?interval=day&",
    "top 10": "top-events?",
    "unique users": "event-counts?",
    "active users": "active-users?",
}
_FOLD_TIMEOUT_S = 300


@click.command()
@click.option("--rows", default=10_000_000, show_default=True)
def main(rows: int) -> None:
    """Print the number of responses by status, and the slowest of them."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-burst-"))
    folder.chmod(0o711)
    try:
        with embedded_servers(folder) as endpoints:
            execute(endpoints.database_url, "create database burst")
            url = url_of(endpoints.database_url, "burst")
            _fill(url, _ROWS_BEFORE, seed=2)
            make_key(url)
            settings = {"ANALYTICS_REQUEST_TIMEOUT_S": "10", "ANALYTICS_ACQUIRE_TIMEOUT_S": "1"}
            log = folder / "service.log"
            with serving(url, endpoints.redis_url, log, settings=settings) as port:
                _burst(url, port, rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _burst(url: str, port: int, rows: int) -> None:
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, timeout=60) as client:
        _wait_until_folded(client)
        with _background_questions(address) as measurements:
            began = time.monotonic()
            _fill(url, rows, seed=1)
            committed = time.monotonic()
            time.sleep(1)
            max_bytes = _wait_until_folded(client)
            folded = time.monotonic()
    click.echo(f"copied {rows:,} rows in {committed - began:.0f} s; queries until then:")
    _print_statuses(measurements, began, committed)
    click.echo(
        f"folded {folded - committed:.0f} s after that, "
        f"with at most {max_bytes / 2**20:,.0f} MB in one process; queries until then:"
    )
    _print_statuses(measurements, committed, folded)


def _fill(url: str, rows: int, seed: int) -> None:
    """Insert the event set in one transaction."""
    with connected(url) as conn:
        conn.autocommit = False
        migrate(conn, migrations())
        for table in days_of_events(rows, seed):
            copy(conn, table)
        conn.commit()


Measurements = dict[str, list[tuple[float, int, float]]]
"""For each query: when it was sent (monotonic time), its status, and milliseconds."""


@contextmanager
def _background_questions(address: str) -> Iterator[Measurements]:
    measurements: Measurements = {question: [] for question in _QUESTIONS}
    is_over = Event()

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not is_over.wait(0.1):
                for question, path in _QUESTIONS.items():
                    began = time.monotonic()
                    status = _ask(client, path)
                    measurements[question].append(
                        (began, status, (time.monotonic() - began) * 1000)
                    )

    thread = Thread(target=ask)
    thread.start()
    try:
        yield measurements
    finally:
        is_over.set()
        thread.join()


def _ask(client: httpx.Client, address: str) -> int:
    path = f"/analytics/{address}start={START.date()}&end={_LAST_DAY}"
    return client.get(path, headers={**AUTHORIZED, "Cache-Control": "no-cache"}).status_code


def _print_statuses(measurements: Measurements, since: float, until: float) -> None:
    for question, answers in measurements.items():
        replies = [(status, ms) for began, status, ms in answers if since <= began < until]
        statuses = Counter(status for status, _ in replies)
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        slowest = ", ".join(
            f"{ms:,.0f}" for ms in sorted((ms for _, ms in replies), reverse=True)[:3]
        )
        click.echo(f"  {question}: {counts}; the slowest took {slowest} ms")


def _wait_until_folded(client: httpx.Client) -> float:
    """Wait, and return the peak memory of a process of the service in bytes.

    Raises: TimeoutError.
    """
    end, max_bytes = time.monotonic() + _FOLD_TIMEOUT_S, 0.0
    while time.monotonic() < end:
        metrics = _metrics(client)
        max_bytes = max(max_bytes, *metrics["process_resident_memory_bytes"])
        if metrics["analytics_rollup_lag_seconds"] == [0]:
            return max_bytes
        time.sleep(0.5)
    raise TimeoutError


def _metrics(client: httpx.Client) -> dict[str, list[float]]:
    """The values of each metric; process metrics have one per worker and for the rollup worker."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    values = defaultdict(list)
    for line in client.get("/metrics", headers=headers).text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values[name.partition("{")[0]].append(float(value))
    return values


if __name__ == "__main__":
    main()
