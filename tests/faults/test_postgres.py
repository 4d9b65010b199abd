"""PostgreSQL that is slow, busy, killed, away or silent."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg2
import pytest

from config.fair_queue import max_per_caller
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import Reply, ask_all, hang_up_after
from tests.faults.service_process import (
    ACQUIRE_S,
    COUNTS,
    DEADLINE_S,
    POOL,
    WORKERS,
    Service,
    service,
)
from tests.slow_events import slow_down
from tests.wait_until import wait_until

MAX_CONNECTIONS = WORKERS * POOL
FRESH = {"Cache-Control": "no-cache"}


@contextmanager
def watched(running: Service, every_s: float = 0.02) -> Iterator[list[int]]:
    """How many sessions the workers have, again and again."""
    seen: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every_s):
            seen.append(len(running.backends()))

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    ended.set()
    thread.join()


def of_pool(running: Service, number: str) -> float:
    """Of the pool that questions have, in all workers."""
    return running.metrics()[f'analytics_pool_{number}{{pool="questions"}}']


def statuses(replies: list[Reply]) -> dict[int, int]:
    return dict(Counter(reply.status for reply in replies))


@pytest.mark.check(1)
def test_pool_race(running: Service, check: Check) -> None:
    """200 requests at once on a few connections"""
    slow_down(running.conn, 0.02)
    with watched(running) as sessions:
        replies = running.ask_fresh(200, at_once=200, mark="race")
    check.record(f"{statuses(replies)}, at most {max(sessions)} sessions")
    assert set(statuses(replies)) <= {200, 503}
    assert statuses(replies)[200] >= 150
    assert max(sessions) <= MAX_CONNECTIONS


@pytest.mark.check(2)
def test_connections_are_reused_under_load(running: Service, check: Check) -> None:
    """1,000 requests, as many at once as connections"""
    running.ask_fresh(20, at_once=MAX_CONNECTIONS, mark="warm")
    wait_until(lambda: len(running.backends()) == MAX_CONNECTIONS, timeout_s=5)
    time.sleep(1.5)  # metrics are told each second
    before = of_pool(running, "opened_total"), sessions(running)
    replies = running.ask_fresh(1000, at_once=MAX_CONNECTIONS, mark="churn")
    wait_until(lambda: of_pool(running, "acquired_total") >= 1000, timeout_s=5)
    opened = of_pool(running, "opened_total") - before[0]
    begun = sessions(running) - before[1]
    check.record(f"{opened:.0f} connections opened, {begun} sessions begun")
    assert statuses(replies) == {200: 1000}
    assert opened <= 1  # one may be at the end of its life
    assert begun <= 5  # the keys' writer among them


def sessions(running: Service) -> int:
    """How many were ever begun, as the server counts them."""
    text = "select sessions from pg_stat_database where datname = current_database()"
    return int(running.query(text)[0][0])


@pytest.mark.check(3)
def test_idle_kill(running: Service, check: Check) -> None:
    """All idle sessions are killed"""
    running.ask_fresh(50, at_once=MAX_CONNECTIONS, mark="warm")
    running.kill_backends(*running.backends())
    time.sleep(0.05)  # before anybody has looked after them
    replies = running.ask_fresh(50, at_once=MAX_CONNECTIONS, mark="idle")
    check.record(str(statuses(replies)))
    assert statuses(replies) == {200: 50}


@pytest.mark.check(4)
def test_kill_storm(running: Service, check: Check) -> None:
    """A session is killed every 20 ms for 5 s"""
    end = time.monotonic() + 5

    def kill() -> None:
        while time.monotonic() < end:
            if pids := running.backends():
                running.kill_backends(random.choice(pids))
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    paths = (f"{COUNTS}&event=storm{n}" for n in range(100_000))
    replies = ask_all(
        running.port, paths, running.headers, at_once=20, until=lambda: time.monotonic() > end
    )
    killer.join()
    check.record(str(statuses(replies)))
    assert set(statuses(replies)) <= {200, 503}
    after = running.ask_fresh(50, at_once=5, mark="calm")
    assert statuses(after) == {200: 50}
    wait_until(lambda: of_pool(running, "in_use") == 0, timeout_s=2)


@pytest.mark.check(5)
def test_slot_leak(running: Service, check: Check) -> None:
    """Sessions are killed in the middle of a transaction"""
    for n in range(3 * POOL):
        slow_down(running.conn, 3)
        thread = threading.Thread(
            target=running.ask_fresh, args=(1,), kwargs={"at_once": 1, "mark": f"leak{n}-"}
        )
        thread.start()
        wait_until(lambda: bool(running.backends("and state = 'active'")), timeout_s=3)
        slow_down(running.conn, 0)
        running.kill_backends(*running.backends("and state = 'active'"))
        thread.join()
        assert running.get(f"{COUNTS}&event=next{n}").status_code == 200
    check.record(f"{3 * POOL} times, the next request 200")


@pytest.mark.check(6)
def test_restart(own: DedicatedServers, running: Service, check: Check) -> None:
    """PostgreSQL is killed and comes back, under load"""
    workers = set(running.worker_pids())
    end = time.monotonic() + 12
    accepts: list[float] = []

    def restart() -> None:
        time.sleep(1)
        old = own.postmaster()
        os.kill(old, signal.SIGKILL)
        while time.monotonic() < end:
            try:
                psycopg2.connect(own.endpoints.database_url).close()
            except psycopg2.OperationalError:
                time.sleep(0.02)
            else:
                accepts.append(time.monotonic())
                return

    killer = threading.Thread(target=restart)
    killer.start()
    paths = (f"{COUNTS}&event=restart{n}" for n in range(1_000_000))
    replies = ask_all(
        running.port, paths, running.headers, at_once=10, until=lambda: time.monotonic() > end
    )
    killer.join()
    reconnect(own, running)
    back = min(r.began + r.seconds for r in replies if r.status == 200 and r.began > accepts[0])
    check.record(f"{statuses(replies)}, 200 again after {back - accepts[0]:.1f} s")
    assert set(statuses(replies)) <= {200, 503}
    assert all("retry-after" in r.headers for r in replies if r.status == 503)
    assert back - accepts[0] <= 5
    assert set(running.worker_pids()) == workers


def reconnect(own: DedicatedServers, running: Service) -> None:
    """The test's own connection, after PostgreSQL was killed."""
    password = own.endpoints.database_url.split("@")[0].rsplit(":", 1)[1]
    running.conn.close()
    running.conn = psycopg2.connect(running.conn.dsn, password=password)
    running.conn.autocommit = True


@pytest.mark.check(7)
def test_down_at_start(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """PostgreSQL is unreachable when the service starts"""
    with service(fault_url, own.endpoints.redis_url, ready=False) as late:
        late.database.refuse()
        wait_until(lambda: health(late) == 200, timeout_s=15)
        assert httpx.get(f"{late.base}/readyz").status_code == 503
        assert late.get(COUNTS).status_code == 503
        late.database.mode = "pass"
        began = time.monotonic()
        wait_until(late.is_ready, timeout_s=5)
        wait_until(lambda: late.get(COUNTS).status_code == 200, timeout_s=5)
        check.record(f"ready after {time.monotonic() - began:.1f} s")


def health(running: Service) -> int:
    try:
        return httpx.get(f"{running.base}/healthz", timeout=5).status_code
    except httpx.TransportError:
        return 0


@contextmanager
def heartbeat(running: Service) -> Iterator[list[float]]:
    """How long /healthz took, again and again."""
    beats: list[float] = []
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.01):
            with httpx.Client(base_url=running.base) as client:  # another worker each time
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                beats.append(time.monotonic() - began)

    thread = threading.Thread(target=beat)
    thread.start()
    yield beats
    ended.set()
    thread.join()


@pytest.mark.check(8)
def test_unresponsive_postgresql(running: Service, check: Check) -> None:
    """For 10 s PostgreSQL takes everything and answers nothing"""
    running.ask_fresh(20, at_once=10, mark="before")
    running.database.mode = "swallow"
    end = time.monotonic() + 10
    paths = (f"{COUNTS}&event=hole{n}" for n in range(100_000))
    with heartbeat(running) as beats:
        replies = ask_all(
            running.port, paths, running.headers, at_once=10, until=lambda: time.monotonic() > end
        )
    slowest = max(reply.seconds for reply in replies)
    slowest_beat = sorted(beats)[int(len(beats) * 0.99)]
    check.record(
        f"{statuses(replies)} within {slowest:.1f} s, /healthz {slowest_beat * 1000:.0f} ms"
    )
    assert set(statuses(replies)) <= {503, 504}
    assert slowest <= DEADLINE_S + 0.5
    assert slowest_beat <= 0.1
    # Nobody waits any more: no thread does for those who left, though the silence goes on.
    wait_until(lambda: of_pool(running, "in_use") == 0, timeout_s=DEADLINE_S + 3)
    running.database.mode = "pass"
    running.database.cut()
    began = time.monotonic()
    wait_until(lambda: all_workers_answer(running), timeout_s=5)
    check.record(f"200 of both workers {time.monotonic() - began:.1f} s after it")
    assert statuses(running.ask_fresh(20, at_once=1, mark="healed")) == {200: 20}
    wait_until(lambda: of_pool(running, "in_use") == 0, timeout_s=2)


def all_workers_answer(running: Service) -> bool:
    """Each request over a connection of its own, which any worker may take."""
    status_codes = {running.get(f"{COUNTS}&event=after", **FRESH).status_code for _ in range(12)}
    return status_codes == {200}


@pytest.mark.check(9)
def test_slow_query(running: Service, check: Check) -> None:
    """A query that takes longer than there is time for"""
    slow_down(running.conn, 30)
    (reply,) = running.ask_fresh(1, at_once=1, mark="slow")
    check.record(f"{reply.status} after {reply.seconds:.2f} s")
    assert reply.status == 504
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.seconds <= DEADLINE_S + 0.3
    condition = "and state = 'active' and query like '%slow0%'"
    wait_until(lambda: not running.backends(condition), timeout_s=1)


@pytest.mark.check(10)
def test_disconnect(running: Service, check: Check) -> None:
    """A client hangs up"""
    slow_down(running.conn, 4)
    hang_up_after(running.port, f"{COUNTS}&event=gone", running.headers, 0.3)
    began = time.monotonic()
    condition = "and state = 'active' and query like '%gone%'"
    wait_until(lambda: not running.backends(condition), timeout_s=1.5)
    check.record(f"its query ended after {time.monotonic() - began:.2f} s")


@contextmanager
def holding_all(running: Service) -> Iterator[None]:
    """Every session that one key may hold has a question to answer, in both workers.

    They are asked one by one: a burst may be taken by one worker alone.
    """

    def is_held() -> bool:
        asking.append(pool.submit(running.ask_fresh, 1, at_once=1, mark=f"hold{len(asking)}."))
        time.sleep(0.03)
        return len(running.backends("and state = 'active'")) == WORKERS * max_per_caller(POOL)

    asking: list[Future[list[Reply]]] = []
    with ThreadPoolExecutor(100) as pool:
        wait_until(is_held, timeout_s=3)
        yield


@pytest.mark.check(11)
def test_exhaustion(running: Service, check: Check) -> None:
    """All connections of a key are held, and 100 of its questions come"""
    slow_down(running.conn, 4.5)
    with holding_all(running), heartbeat(running) as beats:
        replies = running.ask_fresh(100, at_once=100, mark="wait")
    slowest = max(reply.seconds for reply in replies)
    check.record(f"{statuses(replies)} within {slowest:.2f} s")
    assert statuses(replies) == {503: 100}
    assert all(reply.headers["retry-after"] for reply in replies)
    assert slowest <= ACQUIRE_S + 0.3
    assert beats


@pytest.mark.check(14)
def test_the_loop_is_not_blocked(running: Service, check: Check) -> None:
    """50 slow queries, and /healthz beside them"""
    slow_down(running.conn, 0.5)
    with heartbeat(running) as beats:
        running.ask_fresh(50, at_once=50, mark="beat")
    beats.sort()
    check.record(f"{len(beats)} beats, the longest {beats[-1] * 1000:.0f} ms")
    assert beats[-2] <= 0.1


@pytest.mark.check(12)
def test_idle_in_transaction(running: Service, check: Check) -> None:
    """Nobody stays in a transaction"""
    slow_down(running.conn, 0.2)
    hang_up_after(running.port, f"{COUNTS}&event=gone", running.headers, 0.1)
    running.ask_fresh(20, at_once=20, mark="x")
    time.sleep(1.2)
    stuck = running.backends(
        "and state like 'idle in transaction%' and now() - state_change > interval '1 second'"
    )
    check.record(f"{len(stuck)} sessions")
    assert not stuck
