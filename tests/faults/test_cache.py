"""Redis that is unreachable, silent, full or filled with garbage; and many who ask for one page."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest
import redis

from common.questions import QUESTIONS
from tests.api.questions import path_of
from tests.contract.test_questions import EXAMPLES, Case
from tests.events import insert
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import Reply, ask_all, hang_up_after, percentile
from tests.faults.service_process import COUNTS, WORKERS, Service, service
from tests.faults.test_postgres import statuses
from tests.slow_events import slow_down
from tests.wait_until import wait_until
from utils.formats import Format

BREAKER = 'analytics_cache_errors_total{operation="skipped"}'
LOOK_UPS = 'analytics_cache_errors_total{operation="look_up"}'
COMPUTED = 'analytics_question_duration_seconds_count{question="event_counts"'
"""Whatever the source of the answer."""
SILENT_S = 0.15
"""Longer than Redis is waited for."""
FORMS: list[Format] = ["json", "csv", "ndjson"]
PATHS = [
    f"{path_of(case.question, '%C3%BC')}?{urlencode(case.parameters(form), doseq=True)}"
    for case in (Case(question, EXAMPLES[question.name]) for question in QUESTIONS)
    for form in FORMS
]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process takes connections, and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.check(16)
def test_redis_refuses(running: Service, check: Check) -> None:
    """Redis is unreachable"""
    baseline = percentile(running.ask_fresh(100, at_once=2, mark="with"), 95)
    running.cache.refuse()
    replies = running.ask_fresh(200, at_once=2, mark="without")
    p95 = percentile(replies, 95)
    metrics = running.metrics()
    check.record(f"{statuses(replies)}, p95 {p95 * 1000:.0f} ms (with Redis {baseline * 1000:.0f})")
    assert statuses(replies) == {200: 200}
    assert p95 <= baseline + 0.05
    assert metrics[LOOK_UPS] > 0
    assert metrics[BREAKER] > 100


@pytest.mark.check(17)
def test_redis_is_silent(own: DedicatedServers, running: Service, check: Check) -> None:
    """Redis is stopped, and goes on"""
    baseline = percentile(running.ask_fresh(100, at_once=1, mark="with"), 90)
    with stopped(own.valkey()):
        first = running.ask_fresh(8, at_once=8, mark="first")
        running.ask_fresh(20, at_once=4, mark="opening")
        later = running.ask_fresh(100, at_once=1, mark="later")
    began = time.monotonic()
    wait_until(
        lambda: all(reply.headers["x-cache"] == "hit" for reply in cached_answers(running)),
        timeout_s=10,
    )
    slowest = max(reply.seconds for reply in first)
    check.record(
        f"first {slowest * 1000:.0f} ms, then {percentile(later, 90) * 1000:.0f} ms "
        f"(with Redis {baseline * 1000:.0f}), hits {time.monotonic() - began:.1f} s later"
    )
    assert statuses(first + later).keys() == {200}
    assert slowest <= baseline + 0.25
    assert percentile(later, 90) <= baseline + 0.01


def cached_answers(running: Service) -> list[Reply]:
    return [reply for _ in range(4) for reply in running.ask_repeatedly(1, at_once=1)]


def computed(running: Service) -> float:
    return sum(count for name, count in running.metrics().items() if name.startswith(COMPUTED))


@pytest.mark.check(18)
def test_stampede(running: Service, check: Check) -> None:
    """200 at once ask one cold question, and go on when it ends"""
    slow_down(running.conn, 0.3)
    open_range = "/analytics/event-counts?start=2025-03-10"
    seen: list[int] = []
    end = time.monotonic() + 6

    def watch() -> None:
        while time.monotonic() < end:
            seen.append(
                len(running.backends("and state = 'active' and query like '%event_counts%'"))
            )
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    before = computed(running)
    cold = ask_all(running.port, [open_range] * 200, running.headers, at_once=200)
    once = computed(running) - before
    watcher.start()
    going_on = ask_all(
        running.port,
        (open_range for _ in range(1_000_000)),
        running.headers,
        at_once=20,
        until=lambda: time.monotonic() > end,
    )
    watcher.join()
    slowest = max(reply.seconds for reply in going_on)
    check.record(
        f"computed {once:.0f} time(s); then at most {max(seen)} at a time over "
        f"{len(going_on)} requests, the slowest {slowest * 1000:.0f} ms"
    )
    assert statuses(cold) == {200: 200}
    assert once == 1
    assert max(seen) <= WORKERS
    assert statuses(going_on).keys() == {200}


@pytest.mark.check(19)
def test_first_waiting_client_disconnects(running: Service, check: Check) -> None:
    """The first of 20 who wait for one page hangs up"""
    slow_down(running.conn, 1)
    first = threading.Thread(
        target=hang_up_after, args=(running.port, COUNTS, running.headers, 0.4)
    )
    first.start()
    time.sleep(0.1)
    replies = running.ask_repeatedly(19, at_once=19)
    first.join()
    check.record(str(statuses(replies)))
    assert statuses(replies) == {200: 19}


@pytest.mark.check(20)
def test_cancelled_reads(running: Service, check: Check) -> None:
    """500 reads of a slow Redis are cancelled; no answer is another one's"""
    for n in range(5):
        insert(running.conn, *[("u", f"name{n}", "2025-03-10T12:00:00Z")] * (n + 1))
    requests = [(n, f"{COUNTS}&event=name{n}") for n in range(5)]
    for _, path in requests:
        running.get(path)
    running.cache.delay_s = 0.01
    end = [0]

    def cancel() -> None:
        for _ in range(100):
            hang_up_after(
                running.port, random.choice(requests)[1], running.headers, random.uniform(0, 0.03)
            )
        end[0] += 1

    cancelling = [threading.Thread(target=cancel) for _ in range(5)]
    for thread in cancelling:
        thread.start()
    wrong = total = 0
    while end[0] < 5:
        # Now and then nobody waits for what Redis says: it must not be taken for the next answer.
        running.cache.delay_s = random.choice([0.01, 0.01, SILENT_S])
        n, path = random.choice(requests)
        replies = ask_all(running.port, [path] * 10, running.headers, at_once=5)
        total += len(replies)
        wrong += sum(json.loads(reply.body)["data"]["events"] != n + 1 for reply in replies)
    for thread in cancelling:
        thread.join()
    check.record(f"{wrong} of {total} answers are another one's")
    assert not wrong


@pytest.mark.check(21)
def test_garbage_in_redis(own: DedicatedServers, running: Service, check: Check) -> None:
    """Garbage in Redis"""
    poisons = [b"", b"{", os.urandom(500), b"9" * 30, b"0" * 26 + b"\x93\x01\x02\x03"]
    with redis.Redis.from_url(own.endpoints.redis_url) as client:
        for poison in poisons:
            first = running.get(COUNTS).json()["data"]
            keys = client.scan_iter(b"analytics:*:event_counts:*")
            pages = [key for key in keys if not key.endswith(b":flight")]
            assert pages
            for key in pages:
                client.set(key, poison)
            assert running.get(COUNTS).json()["data"] == first
            assert running.get(COUNTS).headers["x-cache"] == "hit"
    check.record(f"{len(poisons)} kinds replaced")


@pytest.mark.check(22)
def test_hits_equal_misses(running: Service, check: Check) -> None:
    """A hit is the bytes of the miss"""
    insert(
        running.conn,
        ("ü", 'Öl, "x"\n', "2025-03-10T12:00:00.000001Z", {"n": 0.1, "big": 12345678901234567890}),
        ("ü", "view", "2025-03-11T12:00:00Z"),
        ("", "view", "2025-03-11T12:00:00Z"),
    )
    running.wait_until_folded()
    same = 0
    for path in PATHS:
        for coding in ("identity", "gzip"):
            answers = [running.get(path, **{"Accept-Encoding": coding}) for _ in range(2)]
            assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit"], path
            assert answers[0].content == answers[1].content
            same += 1
    check.record(f"{same} of {len(PATHS) * 2}")


@pytest.mark.check(23)
def test_a_full_redis(own: DedicatedServers, running: Service, check: Check) -> None:
    """Redis is full and evicts nothing"""
    with redis.Redis.from_url(own.endpoints.redis_url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "2mb")
        try:
            replies = running.ask_fresh(300, at_once=5, mark="full")
            replies += running.ask_repeatedly(100, at_once=5)
        finally:
            client.config_set("maxmemory", "0")
    check.record(str(statuses(replies)))
    assert statuses(replies) == {200: 400}


def test_the_kill_switch(own: DedicatedServers, fault_url: str) -> None:
    """Not of the list: without a cache answers are computed."""
    with service(fault_url, own.endpoints.redis_url, ANALYTICS_CACHE_ENABLED="false") as running:
        assert {reply.headers["x-cache"] for reply in running.ask_repeatedly(5, at_once=1)} == {
            "miss"
        }
