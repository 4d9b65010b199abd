"""How many events a second two workers take over HTTP, while questions are asked of them."""

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from tests.benchmarks.cases import QUESTIONS, address, cases
from tests.benchmarks.event_set import sample
from tests.benchmarks.line import Line
from tests.running import AUTHORIZED

_BATCH = 1_000
_BATCHES = 400
_SENDERS = 4
_NDJSON = {**AUTHORIZED, "Content-Type": "application/x-ndjson"}


def ingest_rates(port: int, say: Callable[[str], None]) -> dict[str, float]:
    """Events a second that are stored when they are answered, in NDJSON of 1,000 events.

    Beside it, how many questions a second were answered anew meanwhile over one connection, and
    how many ms half of them took at most.
    """
    bodies = iter(list(_bodies()))
    took: list[float] = []
    began = time.perf_counter()
    with ThreadPoolExecutor(_SENDERS + 1) as threads:
        ended = threading.Event()
        asking = threads.submit(_ask, port, ended, took)
        sending = [threads.submit(_send, port, bodies) for _ in range(_SENDERS)]
        stored = sum(sender.result() for sender in sending)
        seconds = time.perf_counter() - began
        ended.set()
        asking.result()
    say(f"ingest: {stored:,} events in {seconds:.1f} s, {len(took)} questions meanwhile")
    assert stored == _BATCH * _BATCHES, f"only {stored:,} were stored"
    return {
        "ingest_per_s": stored / seconds,
        "ingest_questions_per_s": len(took) / seconds,
        "ingest_question_ms": statistics.median(took) * 1000,
    }


def _send(port: int, bodies: Iterator[bytes]) -> int:
    """How many events were stored; each batch is sent when the one before was answered."""
    stored = 0
    line = http.client.HTTPConnection("127.0.0.1", port)
    for body in bodies:
        line.request("POST", "/events", body, _NDJSON)
        answer = line.getresponse()
        told = answer.read()
        assert answer.status == 200, told
        stored += msgspec.json.decode(told)["accepted"]
    line.close()
    return stored


def _ask(port: int, ended: threading.Event, took: list[float]) -> None:
    """All questions in turn, one after the other."""
    line = Line(port, {**AUTHORIZED, "Cache-Control": "no-cache"})
    requests = [line.request(address(question, next(iter(cases())))) for question in QUESTIONS]
    while not ended.is_set():
        for request in requests:
            began = time.perf_counter()
            line.ask(request)
            took.append(time.perf_counter() - began)


def _bodies() -> Iterator[bytes]:
    """Batches of events of now."""
    rows = sample(_BATCH * _BATCHES, seed=4).to_pylist()
    now = datetime.now(UTC)
    for first in range(0, len(rows), _BATCH):
        batch = rows[first : first + _BATCH]
        lines = [msgspec.json.encode({**row, **_fresh(row, now)}) for row in batch]
        yield b"\n".join(lines)


def _fresh(row: dict[str, str], now: datetime) -> dict[str, object]:
    """Properties are JSON already."""
    return {"occurred_at": now, "properties": msgspec.Raw(row["properties"].encode())}
