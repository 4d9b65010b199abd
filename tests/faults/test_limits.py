"""Somebody with a key asks or sends what is meant to harm others."""

import gzip
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.api.requests import ENCODERS
from tests.api.test_keys import add_key
from tests.events import insert
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import Reply, ask_all, percentile
from tests.faults.service_process import COUNTS, ROOT, Service, service
from tests.faults.test_postgres import statuses

INFLATED = 16 * 2**20 - 200


def event(properties: bytes) -> bytes:
    return b'{"event_name":"x","properties":' + properties + b"}"


def of_many(value: bytes, size: int) -> bytes:
    return event(b'{"a":[' + b",".join([value] * (size // (len(value) + 1))) + b"]}")


def in_lines(line: bytes) -> bytes:
    return b"\n".join([line] * (INFLATED // (len(line) + 1)))


NDJSON = "application/x-ndjson"
GROWING: list[tuple[str, str, Callable[[], bytes]]] = [
    ("lists", "application/json", lambda: of_many(b"[]", INFLATED)),
    ("objects", "application/json", lambda: of_many(b"{}", INFLATED)),
    ("lists in an array", "application/json", lambda: b"[" + of_many(b"[]", INFLATED) + b"]"),
    ("lists in a line", NDJSON, lambda: of_many(b"[]", INFLATED)),
    ("events of lists", NDJSON, lambda: in_lines(of_many(b"[]", 48_000))),
    ("events of objects", NDJSON, lambda: in_lines(of_many(b'{"k":0}', 120_000))),
    ("events of great depth", NDJSON, lambda: in_lines(event(b'{"a":' + b"[" * 900 + b"]" * 901))),
    ("escapes", NDJSON, lambda: in_lines(event(b'{"a":"' + rb"\\" * 130_000 + b'"}'))),
    ("larger as written", NDJSON, lambda: b"\n".join([of_many(b'{"":0}', 57_000)] * 60)),
    ("unknown fields", NDJSON, lambda: of_many(b"[]", INFLATED).replace(b"properties", b"z")),
]


@pytest.mark.check(63)
def test_bodies_that_grow(running: Service, check: Check) -> None:
    """Bodies of few kB that would be 400 MB of objects"""
    workers = running.worker_pids()
    for pid in workers:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = max(map(resident_mb, workers))
    slowest, longest = 0.0, 0
    with health_checks(running) as seen:
        for _, media_type, made in GROWING:
            for coding in ("gzip", "zstd"):
                body = ENCODERS[coding](made())
                longest = max(longest, len(body))
                headers = {"Content-Type": media_type, "Content-Encoding": coding}
                began = time.monotonic()
                answer = httpx.post(
                    f"{running.base}/events",
                    content=body,
                    headers=running.headers | headers,
                    timeout=30,
                )
                slowest = max(slowest, time.monotonic() - began)
                assert answer.status_code in (413, 422), answer.text
    more = max(map(peak_mb, workers)) - before
    check.record(
        f"of up to {longest // 1000} kB each refused within {slowest * 1000:.0f} ms and "
        f"{more:.0f} MB, /healthz within {max(seen) * 1000:.0f} ms"
    )
    assert running.worker_pids() == workers
    assert slowest < 2
    assert more < 150
    assert max(seen) < 1


def resident_mb(pid: int) -> float:
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most that the process held since its references were cleared."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


@contextmanager
def health_checks(running: Service) -> Iterator[list[float]]:
    """Seconds that each check of the health took meanwhile."""
    seen: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            assert httpx.get(f"{running.base}/healthz", timeout=30).status_code == 200
            seen.append(time.monotonic() - began)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.check(64)
def test_lines_without_an_end(
    fault_url: str, tmp_path: Path, check: Check, running: Service
) -> None:
    """Files for `load` with a line of 100 MB"""
    good = '{"event_id":"%s","event_name":"view","occurred_at":"2025-03-10T09:00:00Z"}'
    ids = [f"00000000-0000-4000-8000-{n:012}" for n in range(2)]
    header = "event_id,event_name,occurred_at"
    rows = [f"{each},view,2025-03-10T09:00:00Z" for each in ids]
    long = "x" * 100 * 2**20
    files = {
        "a.ndjson.gz": "\n".join([good % ids[0], '{"a":"' + long, good % ids[1]]),
        "a.csv.gz": "\n".join([header, rows[0], long, rows[1]]),
    }
    most = 0.0
    for name, text in files.items():
        (tmp_path / name).write_bytes(gzip.compress(text.encode(), 1))
        output, peak = loaded(tmp_path / name, fault_url)
        most = max(most, peak)
        assert "1 rejected" in output, output
    check.record(f"rejected within {most:.0f} MB")
    assert running.query("select count(*) from events") == [(2,)]
    assert most < 200  # `load` of usual files takes up to 191 MB; with the line it would be 270


def loaded(file: Path, url: str) -> tuple[str, float]:
    """What `load` said, and the most MB that it held."""
    command = [sys.executable, str(ROOT / "main.py"), "load", str(file)]
    environment = {**os.environ, "DATABASE_URL": url}
    peak = 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            with suppress(OSError, ValueError):  # it may end in between
                peak = max(peak, peak_mb(running.pid))
            time.sleep(0.02)
        assert running.stdout is not None
        return running.stdout.read(), peak


SLOW_S = 0.8
SLOW = "/analytics/event-counts?start=2025-06-01T09:01:00Z&end=2025-06-01T09:02:00Z&event=slow"
QUICK = "/analytics/event-counts?start=2025-03-10T09:01:00Z&end=2025-03-10T09:02:00Z"


def slow_on_one_day(running: Service) -> None:
    """Whoever reads the event of this day waits; nobody else does."""
    insert(running.conn, ("u", "slow", "2025-06-01T09:01:30Z"))
    running.wait_until_folded()
    running.query("alter table events rename to stored_events")
    running.query(
        "create view events as select * from stored_events where event_name <> 'slow' "
        f"or (select pg_sleep({SLOW_S}) is not null)"
    )
    running.query("grant select on events to analytics_reader")


@pytest.mark.check(65)
@pytest.mark.parametrize(("limit", "told"), [("", "default"), ("0", "no limit")])
def test_expensive_questions_of_one_key_do_not_delay_other_keys(
    own: DedicatedServers, fault_url: str, check: Check, limit: str, told: str
) -> None:
    """18 expensive questions of one key at a time, and another key asks cheap ones"""
    with service(
        fault_url,
        own.endpoints.redis_url,
        ANALYTICS_CONCURRENCY_LIMIT=limit,
        ANALYTICS_POOL_SIZE="4",
    ) as running:
        slow_on_one_day(running)
        other = add_key(running.conn, "the-key-of-another", "read")
        running.get(QUICK, **other)
        alone = ask_all(running.port, paths(QUICK, "alone", 50), other, at_once=1)
        with asking_on(running, SLOW, at_once=18) as slow:
            time.sleep(1)
            beside = ask_all(running.port, paths(QUICK, "beside", 100), other, at_once=1)
    before, after = (percentile(replies, 95) for replies in (alone, beside))
    check.record(
        f"{told}: {statuses(beside)}, p95 {after * 1000:.0f} ms (alone {before * 1000:.0f}), "
        f"the expensive ones {statuses(slow)}"
    )
    assert statuses(beside) == {200: 100}
    assert statuses(slow)[200] > 4
    assert after < before * 10 + SLOW_S / 4


@pytest.mark.check(79)
def test_events_of_one_key_and_of_others(
    own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """12 senders of one key send what takes 2.5 s to store, and another key sends single events"""
    slow = b'{"event_name":"slow"}'
    with service(fault_url, own.endpoints.redis_url) as running:
        store_slowly(running)
        other = add_key(running.conn, "the-key-of-another", "write")
        assert post(running, event(b"{}"), **other) == 200
        with sending_on(running, slow, at_once=12) as stored:
            time.sleep(1)
            status_counts = Counter(post(running, event(b"{}"), **other) for _ in range(30))
    check.record(f"{dict(status_counts)}, the slow ones {dict(Counter(stored))}")
    assert status_counts == {200: 30}
    assert Counter(stored)[200] > 3


def store_slowly(running: Service) -> None:
    """Whoever stores this event waits; nobody else does."""
    running.query(
        "create function wait() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(2.5); return new; end $$"
    )
    running.query(
        "create trigger waiting before insert on events for each row "
        "when (new.event_name = 'slow') execute function wait()"
    )


def post(running: Service, body: bytes, **headers: str) -> int:
    url, kind = f"{running.base}/events", {"Content-Type": NDJSON}
    return httpx.post(
        url, content=body, headers=running.headers | kind | headers, timeout=30
    ).status_code


@contextmanager
def sending_on(running: Service, body: bytes, *, at_once: int) -> Iterator[list[int]]:
    """The key of the tests sends this again and again; what it was answered."""
    status_codes: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            status_codes.append(post(running, body))
            over.wait(0.05)  # whoever was refused tries again

    threads = [threading.Thread(target=send) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield status_codes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def paths(question: str, mark: str, count: int) -> list[str]:
    """So many questions that were never asked before."""
    return [f"{question}&event={mark}{n}" for n in range(count)]


@contextmanager
def asking_on(running: Service, question: str, *, at_once: int) -> Iterator[list[Reply]]:
    """The key of the tests asks so many questions at a time, each over a connection of its own."""
    replies: list[Reply] = []
    over = threading.Event()

    def ask(thread: int) -> None:
        for n in count():
            if over.is_set():
                break
            path = f"{question}&event=x{thread}.{n}"
            replies.extend(ask_all(running.port, [path], running.headers, at_once=1))
            over.wait(0.05)  # whoever was refused tries again

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        over.set()
        for thread in threads:
            thread.join()


RATE = 20


@pytest.mark.check(66)
def test_refusals(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """A key sends nothing but what is refused, for 2 s"""
    with service(fault_url, own.endpoints.redis_url, ANALYTICS_RATE_LIMIT=str(RATE)) as running:
        status_counts: Counter[int] = Counter()
        began = time.monotonic()
        while time.monotonic() < began + 2:
            for path in ("/analytics/event-counts?start=x", "/analytics/none", COUNTS + "&a=1"):
                (reply,) = ask_all(running.port, [path], running.headers, at_once=1)
                status_counts[reply.status] += 1
        seconds = time.monotonic() - began
    check.record(f"{dict(status_counts)} at {RATE} a second")
    assert set(status_counts) == {404, 422, 429}
    assert status_counts[404] + status_counts[422] <= RATE * (seconds + 1)


@pytest.mark.check(68)
def test_the_description(running: Service, check: Check) -> None:
    """/openapi.json beside an answer that is kept"""
    times = {}
    for path in ("/openapi.json", COUNTS):
        ask_all(running.port, [path] * 20, running.headers, at_once=4)
        times[path] = percentile(
            ask_all(running.port, [path] * 300, running.headers, at_once=1), 50
        )
    description, cached_ms = (times[path] * 1000 for path in ("/openapi.json", COUNTS))
    check.record(f"p50 {description:.2f} ms, a kept answer {cached_ms:.2f} ms")
    assert description < cached_ms * 5 + 2


@pytest.mark.check(67)
def test_late_commands(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """Redis answers too late for a second, and a key may have one question at a time"""
    with service(fault_url, own.endpoints.redis_url, ANALYTICS_CONCURRENCY_LIMIT="1") as running:
        running.cache.delay_s = 0.3
        meanwhile = running.ask_fresh(6, at_once=1, mark="late")
        running.cache.delay_s = 0
        time.sleep(1.5)  # as long as Redis may be passed over
        after = running.ask_fresh(30, at_once=1, mark="after")
    check.record(f"meanwhile {statuses(meanwhile)}, 1.5 s later {statuses(after)}")
    assert statuses(meanwhile) == {200: 6}
    assert statuses(after) == {200: 30}
