"""Workers that are stopped, killed and watched, and a collector that is unreachable."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import BROKEN, Reply, ask_all, percentile
from tests.faults.proxy import proxy_to
from tests.faults.service_process import COUNTS, SCRAPER, Service, service
from tests.faults.test_postgres import statuses
from tests.slow_events import slow_down
from tests.wait_until import wait_until

IN_FLIGHT = "http_requests_in_flight"


def in_background(
    replies: list[Reply], running: Service, seconds: float, mark: str
) -> threading.Thread:
    end = time.monotonic() + seconds

    def load() -> None:
        paths = (f"{COUNTS}&event={mark}{n}" for n in range(1_000_000))
        replies.extend(
            ask_all(
                running.port,
                paths,
                running.headers,
                at_once=8,
                until=lambda: time.monotonic() > end,
            )
        )

    thread = threading.Thread(target=load)
    thread.start()
    return thread


@contextmanager
def tracing_into_silence(own: DedicatedServers, url: str) -> Iterator[Service]:
    """A service whose collector takes everything and answers nothing."""
    with proxy_to(1) as collector:
        collector.mode = "swallow"
        endpoint = f"http://127.0.0.1:{collector.port}"
        with service(url, own.endpoints.redis_url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as running:
            yield running


@pytest.mark.check(24)
def test_graceful_stop(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """Told to stop under load, with Redis and the collector silent"""
    with tracing_into_silence(own, fault_url) as running:
        slow_down(running.conn, 0.2)
        running.cache.mode = "swallow"
        replies: list[Reply] = []
        load = in_background(replies, running, 3, "stop")
        time.sleep(1)
        stopped_at = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(15)
        took = time.monotonic() - stopped_at
        load.join()
    # A connection may be closed between two requests; none was read from and left unanswered.
    broken = [
        reply for reply in replies if reply.status == BROKEN and reply.began < stopped_at - 0.05
    ]
    check.record(f"{len(broken)} of {len(replies)} broken, gone after {took:.1f} s")
    assert not broken
    assert set(statuses(replies)) <= {200, BROKEN}
    assert took <= 10
    assert running.process.returncode == 0


@pytest.mark.check(24)
def test_a_stop_that_does_not_wait_for_a_question(
    own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """Told to stop under load, with Redis and the collector silent"""
    with service(
        fault_url,
        own.endpoints.redis_url,
        ANALYTICS_REQUEST_TIMEOUT_S="60",
        ANALYTICS_ACQUIRE_TIMEOUT_S="60",
    ) as running:
        slow_down(running.conn, 40)
        replies: list[Reply] = []
        load = in_background(replies, running, 1, "late")
        time.sleep(3)
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(15)
        load.join()
        lines = running.log_lines()
    check.record(f"of questions that take 40 s: {statuses(replies)}")
    assert statuses(replies) == {503: 8}
    for reply in replies:
        assert reply.headers["content-type"] == "application/problem+json"
        assert b'"urn:analytics-service:problem:stopping"' in reply.body
    assert not [
        line for line in lines if line["logger"].startswith("uvicorn") and "exc_info" in line
    ]
    assert running.process.returncode == 0


@pytest.mark.check(25)
def test_a_worker_is_killed(running: Service, check: Check) -> None:
    """One of two workers is killed under load"""
    running.ask_repeatedly(200, at_once=8)
    before = running.metrics()
    victim, other = running.worker_pids()
    replies: list[Reply] = []
    slow_down(running.conn, 0.1)
    load = in_background(replies, running, 4, "kill")
    time.sleep(1)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: len(set(running.worker_pids()) - {victim}) == 2, timeout_s=5)
    replaced = time.monotonic() - began
    load.join()
    wait_until(lambda: running.metrics()[IN_FLIGHT] == 1, timeout_s=2)  # the scrape itself
    after = running.metrics()
    fallen = [
        name
        for name, value in before.items()
        if "_total" in name and not name.startswith("process_") and after.get(name, -1) < value
    ]
    check.record(f"{statuses(replies)}, replaced after {replaced:.1f} s, {len(fallen)} fallen")
    assert other in running.worker_pids()
    assert not fallen
    assert set(statuses(replies)) <= {200, BROKEN}
    assert statuses(replies).get(BROKEN, 0) <= 8, "no more than were in flight"


@pytest.mark.check(26)
def test_the_collector_is_away(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """Traces go nowhere for 20 s"""
    with tracing_into_silence(own, fault_url) as running:
        running.ask_repeatedly(2000, at_once=4)
        before = memory(running)
        end = time.monotonic() + 20
        first = running.ask_repeatedly(2000, at_once=4)
        while time.monotonic() < end:
            last = running.ask_repeatedly(2000, at_once=4)
        grown = memory(running) - before
        lines = [line for line in running.log_lines() if line["logger"].startswith("opentelemetry")]
    p95 = [percentile(replies, 95) * 1000 for replies in (first, last)]
    check.record(
        f"p95 {p95[0]:.1f} and then {p95[1]:.1f} ms, {grown / 2**20:.0f} MB more, "
        f"{len(lines)} log lines of two workers"
    )
    assert p95[1] <= p95[0] * 1.5 + 2
    assert grown <= 2 * 20 * 2**20
    assert len(lines) <= 8


def memory(running: Service) -> float:
    metrics = running.metrics()
    return sum(v for name, v in metrics.items() if name.startswith("process_resident_memory_bytes"))


@pytest.mark.check(27)
def test_soak(running: Service, check: Check) -> None:
    """30,000 requests"""
    seen = []
    for part in range(30):
        mixed = [COUNTS if n % 10 else f"{COUNTS}&event=soak{part}-{n}" for n in range(1000)]
        replies = ask_all(running.port, mixed, running.headers, at_once=10)
        assert statuses(replies) == {200: 1000}
        seen.append(resources(running))
    growth = {}
    for name in seen[0]:
        first, last = (max(each[name] for each in part) for part in (seen[5:15], seen[-10:]))
        growth[name] = (first, last)
    check.record(
        ", ".join(f"{name} {last / first - 1:+.1%}" for name, (first, last) in growth.items())
    )
    # A pool of threads starts one of them whenever it first needs so many at a time: up to four for
    # questions in each of two workers, of which fewer are used the faster the answers are.
    allowed = {"threads": 6}
    for name, (first, last) in growth.items():
        assert last <= first * 1.05 + allowed.get(name, 0), growth


def resources(running: Service) -> dict[str, float]:
    workers = [Path(f"/proc/{pid}") for pid in running.worker_pids()]
    return {
        "memory": memory(running),
        "files": sum(len(list((worker / "fd").iterdir())) for worker in workers),
        "threads": sum(len(list((worker / "task").iterdir())) for worker in workers),
        "connections": len(running.backends()),
    }


@pytest.mark.check(28)
def test_metrics(running: Service, check: Check) -> None:
    """Counts of two workers, and paths that nobody serves"""
    series = 'http_requests_total{method="GET",route="/analytics/event-counts",status="200"}'
    before = running.metrics().get(series, 0)
    running.ask_repeatedly(500, at_once=10)
    running.ask_fresh(50, at_once=10, mark="count")
    counted = running.metrics()[series] - before
    known = len(running.metrics())
    ask_all(running.port, [f"/x{n}" for n in range(1000)], {}, at_once=10)
    took = []
    for _ in range(5):
        began = time.monotonic()
        more = len(running.metrics()) - known
        took.append(time.monotonic() - began)
    check.record(
        f"{counted:.0f} of 550 counted, {more} series more, page in {min(took) * 1000:.0f} ms"
    )
    assert counted == 550
    # A new route has one count, and the sum, count and bounds of its duration.
    assert more <= 20
    assert min(took) <= 0.1
    assert running.get("/metrics").status_code == 401


@pytest.mark.check(28)
def test_metrics_are_well_formed(running: Service, check: Check) -> None:
    """Counts of two workers, and paths that nobody serves"""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's prometheus"
    running.ask_repeatedly(10, at_once=2)
    page = running.get("/metrics", **SCRAPER).content
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, check=False
    )
    check.record(f"promtool: {done.returncode}")
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
