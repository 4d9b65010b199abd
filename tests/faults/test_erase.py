"""Users who are erased while something breaks."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from commands.verify import verify_all
from tests.events import insert
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.service_process import ROOT, Service
from tests.wait_until import wait_until
from utils.time.zones import zone

EVENTS = 20_000
PARAMS = 10
STEP_S = 0.1
NOW = datetime.now(UTC)
HISTORY = "/analytics/users/{}/events"
INSERT = (
    "insert into events (event_id, user_id, event_name, occurred_at) "
    "select gen_random_uuid(), 'many', 'view', now() - n * interval '10 minutes' "
    "from generate_series(1, %s) as n"
)


def erase(own: DedicatedServers, url: str, user: str) -> "subprocess.Popen[bytes]":
    urls = {"DATABASE_URL": url, "REDIS_URL": own.endpoints.redis_url}
    command = [sys.executable, str(ROOT / "main.py"), "erase", user, "--yes"]
    return subprocess.Popen(command, env={**os.environ, **urls}, stdout=subprocess.PIPE)


@pytest.mark.check(46)
def test_erase_killed(
    running: Service, own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """An erasure killed again and again: all of it or nothing, and questions go on"""
    running.query(INSERT, EVENTS)
    insert(running.conn, ("another", "view", NOW - timedelta(days=3)))
    running.wait_until_folded()
    kills, after_s, remaining = 0, 0.3, EVENTS
    while remaining:
        process = erase(own, fault_url, "many")
        time.sleep(after_s)
        process.kill()
        output, _ = process.communicate()
        ((remaining,),) = running.query("select count(*) from events where user_id = 'many'")
        assert remaining in ({0} if output else {0, EVENTS})
        assert running.query("select count(*) from erasures") == [(int(not remaining),)]
        response = running.get("/analytics/event-counts?last=300d", **{"Cache-Control": "no-cache"})
        assert response.json()["data"]["events"] == remaining + 1
        kills, after_s = kills + 1, after_s + STEP_S
    assert kills > 3
    running.wait_until_folded()
    assert verify_all(fault_url, [zone("UTC")]).listed == []
    check.record(f"{kills} kills, the last {after_s - STEP_S:.2f} s after its start")


@pytest.mark.check(47)
def test_erased_and_away(
    running: Service, own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """PostgreSQL goes away right after an erasure: no worker gives an old history"""
    users = [f"u{n}" for n in range(5)]
    insert(running.conn, *((user, "view", NOW) for user in users))
    running.wait_until_folded()
    for user in users:
        # A worker that was not asked since PostgreSQL came back may learn of it now.
        wait_until(partial(counts_events, running, user, 1), timeout_s=5)
        output, _ = erase(own, fault_url, user).communicate()
        running.database.refuse()
        assert statuses(running, user) == {503}, output
        running.database.mode = "pass"
        wait_until(partial(answers, running, user), timeout_s=10)
        assert counts_events(running, user, 0)
    check.record(f"{PARAMS * len(users)} times asked")


def statuses(running: Service, user: str) -> set[int]:
    """Of all workers."""
    return {running.get(HISTORY.format(user)).status_code for _ in range(PARAMS)}


def counts_events(running: Service, user: str, events: int) -> bool:
    return len(running.get(HISTORY.format(user)).json().get("data", [])) == events


def answers(running: Service, user: str) -> bool:
    """All workers do again."""
    return statuses(running, user) == {200}
