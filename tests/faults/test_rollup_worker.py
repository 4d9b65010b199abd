"""Events that come late, and a rollup worker that is killed."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.events import insert
from tests.faults.conftest import Check
from tests.faults.service_process import Service
from tests.wait_until import wait_until

NOW = datetime.now(UTC)
DAYS = 10
FIRST, END = (NOW.date() - timedelta(days=n) for n in (DAYS, 1))
"""A range that is over, whose answers are kept for long."""
QUERY_STRING = f"/analytics/event-counts?start={FIRST}&end={END}&interval=day"
NOTIFY_TIMEOUT_S = 3.0

RAW = """
select count(*), count(distinct user_id)
from   events
where  occurred_at >= %s::date::timestamp at time zone 'UTC'
and    occurred_at <  %s::date::timestamp at time zone 'UTC'
"""


def some_events(count: int, mark: str) -> list[tuple[str, str, datetime]]:
    """Of all days of the range."""
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    step = timedelta(days=DAYS - 1) / count
    return [(f"{mark}{n % 40}", "view", start + n * step) for n in range(count)]


def answer(running: Service, **headers: str) -> dict[str, Any]:
    response = running.get(QUERY_STRING, **headers)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def is_raw(running: Service, data: dict[str, Any]) -> bool:
    return [(data["events"], data["users"])] == running.query(RAW, FIRST, END)


@pytest.mark.check(32)
def test_late_event(running: Service, check: Check) -> None:
    """An event that is 36 hours late"""
    insert(running.conn, *some_events(500, "u"))
    running.wait_until_folded()
    before = answer(running)
    assert answer(running) == before
    assert is_raw(running, before)

    late = datetime.combine(END, datetime.min.time(), UTC) - timedelta(hours=12)
    insert(running.conn, ("somebody", "view", late))
    began = time.monotonic()
    total = before["events"] + 1
    asked_anew = running.get(QUERY_STRING.replace("day", "week")).json()["data"]
    assert (asked_anew["events"], asked_anew["users"]) == (total, before["users"] + 1)
    wait_until(
        lambda: all(answer(running)["events"] == total for _ in range(8)),
        timeout_s=NOTIFY_TIMEOUT_S,
    )
    took = time.monotonic() - began

    data = answer(running)
    assert is_raw(running, data)
    assert data["users"] <= sum(day["users"] for day in data["series"])
    assert running.get(QUERY_STRING).headers["x-cache"] == "hit"
    check.record(f"told at once without the cache, and to all within {took:.1f} s")


@pytest.mark.check(45)
def test_rollup_worker_killed(running: Service, check: Check) -> None:
    """The rollup worker killed again and again while events come in"""
    kills, requests = 0, 0
    end = time.monotonic() + 8
    while time.monotonic() < end:
        insert(running.conn, *some_events(50, f"k{requests}-"))
        assert is_raw(running, answer(running, **{"Cache-Control": "no-cache"}))
        requests += 1
        for pid in running.rollup_worker_pids() if requests % 5 == 0 else ():
            os.kill(pid, signal.SIGKILL)
            kills += 1
    assert kills > 2
    began = time.monotonic()
    running.wait_until_folded()
    took = time.monotonic() - began
    assert is_raw(running, answer(running, **{"Cache-Control": "no-cache"}))
    statement = "select sum(events) from slots join fold_state using (generation) where name_id = 0"
    assert running.query(statement) == running.query("select count(*) from events")
    check.record(f"{requests} answers right, {kills} kills; all folded {took:.1f} s after the last")
