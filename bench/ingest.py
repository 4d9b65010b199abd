"""Measure how many events per second two workers store over HTTP while they answer queries."""

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from bench.cases import QUESTIONS, address, cases
from bench.event_set import sample
from bench.http_client import HttpConnection
from tests.live_server import AUTHORIZED

_BATCH = 1_000
_BATCHES = 400
_SENDERS = 4
_NDJSON = {**AUTHORIZED, "Content-Type": "application/x-ndjson"}


def ingest_rates(port: int, say: Callable[[str], None]) -> dict[str, float]:
    """The rate of stored events, in requests of 1,000 as NDJSON, in events per second.

    Also the rate of uncached queries over one connection at the same time, in queries per second,
    and their median in ms.
    """
    bodies = iter(list(_bodies()))
    durations: list[float] = []
    began = time.perf_counter()
    with ThreadPoolExecutor(_SENDERS + 1) as threads:
        is_over = threading.Event()
        asking = threads.submit(_ask, port, is_over, durations)
        sending = [threads.submit(_send, port, bodies) for _ in range(_SENDERS)]
        stored = sum(sender.result() for sender in sending)
        seconds = time.perf_counter() - began
        is_over.set()
        asking.result()
    say(f"ingest: {stored:,} events in {seconds:.1f} s, {len(durations)} questions meanwhile")
    assert stored == _BATCH * _BATCHES, f"only {stored:,} were stored"
    return {
        "ingest_per_s": stored / seconds,
        "ingest_questions_per_s": len(durations) / seconds,
        "ingest_question_ms": statistics.median(durations) * 1000,
    }


def _send(port: int, bodies: Iterator[bytes]) -> int:
    """Send batches one after another; return how many events were stored."""
    stored = 0
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for body in bodies:
        connection.request("POST", "/events", body, _NDJSON)
        answer = connection.getresponse()
        reply = answer.read()
        assert answer.status == 200, reply
        stored += msgspec.json.decode(reply)["accepted"]
    connection.close()
    return stored


def _ask(port: int, is_over: threading.Event, durations: list[float]) -> None:
    """Send all queries in turn, one after another, until `is_over`."""
    connection = HttpConnection(port, {**AUTHORIZED, "Cache-Control": "no-cache"})
    requests = [
        connection.request(address(question, next(iter(cases())))) for question in QUESTIONS
    ]
    while not is_over.is_set():
        for request in requests:
            began = time.perf_counter()
            connection.ask(request)
            durations.append(time.perf_counter() - began)


def _bodies() -> Iterator[bytes]:
    """Yield batches of events of the current time as NDJSON."""
    rows = sample(_BATCH * _BATCHES, seed=4).to_pylist()
    now = datetime.now(UTC)
    for first in range(0, len(rows), _BATCH):
        batch = rows[first : first + _BATCH]
        lines = [msgspec.json.encode({**row, **_fresh(row, now)}) for row in batch]
        yield b"\n".join(lines)


def _fresh(row: dict[str, str], now: datetime) -> dict[str, object]:
    """The fields to replace; properties are JSON text already."""
    return {"occurred_at": now, "properties": msgspec.Raw(row["properties"].encode())}
