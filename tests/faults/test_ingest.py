"""What was acknowledged is there, once, whatever is killed meanwhile."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import psycopg2
import pytest

from tests.api.requests import ndjson
from tests.factories import event
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.service_process import Service
from tests.faults.test_postgres import heartbeat, reconnect
from tests.wait_until import adjusted_for_load, wait_until

NDJSON = {"Content-Type": "application/x-ndjson"}
EVENTS, BATCH, SENDERS = 10_000, 50, 4


def post(running: Service, body: bytes) -> httpx.Response | None:
    """Over a connection of its own; None where it ended before the answer was whole."""
    try:
        headers = {**running.headers, **NDJSON}
        return httpx.post(f"{running.base}/events", content=body, headers=headers, timeout=30)
    except httpx.TransportError:
        return None


def deliver(running: Service, body: bytes) -> list[int]:
    """Send it until it is acknowledged, and tell what was answered; 0: nothing."""
    answers: list[int] = []
    deadline = time.monotonic() + 60
    while not answers or answers[-1] != 200:
        assert time.monotonic() < deadline, f"not acknowledged: {Counter(answers)}"
        answer = post(running, body)
        answers.append(answer.status_code if answer is not None else 0)
        if answers[-1] != 200:
            time.sleep(0.05)
    return answers


def kill_postgresql(own: DedicatedServers) -> None:
    """And wait until it is back."""

    def accepts() -> bool:
        try:
            psycopg2.connect(own.endpoints.database_url).close()
        except psycopg2.OperationalError:
            return False
        return True

    os.kill(own.postmaster(), signal.SIGKILL)
    wait_until(lambda: not accepts(), timeout_s=5)
    wait_until(accepts, timeout_s=20)


def batches() -> list[list[dict[str, object]]]:
    made = [event(n, event_id=str(uuid4())) for n in range(EVENTS)]
    return [made[first : first + BATCH] for first in range(0, EVENTS, BATCH)]


@pytest.mark.check(15)
def test_events_without_ids_are_stored_once(
    own: DedicatedServers, running: Service, check: Check
) -> None:
    """Events without ids are sent once while connections and PostgreSQL are killed"""
    names = [f"n{n}" for n in range(400)]

    def send(name: str) -> int:
        time.sleep(0.01)
        answer = post(running, ndjson({"event_name": name}))
        return answer.status_code if answer is not None else 0

    with ThreadPoolExecutor(SENDERS) as threads:
        answers = [threads.submit(send, name) for name in names]
        for position in range(20, 300, 40):
            wait_until(answers[position].done, timeout_s=60)
            running.database.cut()  # now and then where a commit is on its way
        kill_postgresql(own)
        bodies = [answer.result() for answer in answers]
    reconnect(own, running)
    rows = dict(running.query("select event_name, count(*) from events group by 1"))
    check.record(f"without ids {dict(Counter(bodies))}")
    assert set(rows.values()) == {1}
    acknowledged = {name for name, status in zip(names, bodies, strict=True) if status == 200}
    assert len(acknowledged) > 200
    assert acknowledged <= set(rows)


@pytest.mark.check(15)
def test_acknowledged_events_are_stored(
    own: DedicatedServers, running: Service, check: Check
) -> None:
    """PostgreSQL and a worker are killed while 10,000 events come in, repeated until taken"""
    sent = batches()
    acknowledged: list[str] = []

    def send(batch: list[dict[str, object]]) -> list[int]:
        answers = deliver(running, ndjson(*batch))
        acknowledged.extend(str(each["event_id"]) for each in batch)
        time.sleep(0.05)  # so that there is something to kill
        return answers

    def meanwhile(done: int, kill: Callable[[], None]) -> None:
        wait_until(lambda: len(acknowledged) >= done, timeout_s=60)
        kill()

    with ThreadPoolExecutor(SENDERS) as threads:
        answers = [threads.submit(send, batch) for batch in sent]
        meanwhile(EVENTS // 5, lambda: kill_postgresql(own))
        meanwhile(EVENTS // 2, lambda: os.kill(running.worker_pids()[0], signal.SIGKILL))
        meanwhile(EVENTS * 3 // 4, lambda: kill_postgresql(own))
        statuses = Counter(status for answer in answers for status in answer.result())
    reconnect(own, running)
    rows = running.query("select event_id::text, count(*) from events group by 1")
    check.record(f"{dict(statuses)}; {len(rows)} of {EVENTS} are there, each once")
    assert set(statuses) <= {0, 200, 503, 504}
    assert statuses[503] + statuses[504] + statuses[0] > 0, "nothing was interrupted"
    assert dict(rows) == dict.fromkeys((str(e["event_id"]) for batch in sent for e in batch), 1)
    assert set(acknowledged) == set(dict(rows))


@pytest.mark.check(31)
def test_the_same_batch_at_once(running: Service, check: Check) -> None:
    """The same 1,000 events five times at once, on two workers"""
    body = ndjson(*(event(n) for n in range(1_000)))
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: post(running, body), range(5)))
    bodies = [answer.json() for answer in answers if answer is not None]
    accepted, duplicates = (
        sum(each[name] for each in bodies) for name in ("accepted", "duplicates")
    )
    check.record(f"{accepted} accepted, {duplicates} duplicates")
    assert running.query("select count(*), count(distinct event_id) from events") == [(1000, 1000)]
    assert (accepted, duplicates) == (1_000, 4_000)
    other = post(running, ndjson(event(1, event_name="other")))
    assert other is not None
    assert other.json() == {"accepted": 0, "duplicates": 1}


@pytest.mark.check(14)
def test_large_batches_do_not_block_the_loop(running: Service, check: Check) -> None:
    """50 slow queries, and /healthz beside them"""
    large = ndjson(*(event(n, properties={"x": "y" * 600}) for n in range(10_000)))
    with heartbeat(running) as beats, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: post(running, large), range(8)))
        allowed_s = adjusted_for_load(0.1)
    beats.sort()
    p99 = beats[int(len(beats) * 0.99)]
    check.record(f"beside batches of 10,000 events 99 % within {p99 * 1000:.0f} ms")
    assert {answer.status_code for answer in answers if answer is not None} <= {200, 503, 504}
    assert p99 <= allowed_s
