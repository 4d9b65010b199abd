"""Everything at once. `make test-long` goes on for MINUTES; among the other checks it is one."""

import os
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from commands.verify import verify_all
from tests.api.test_keys import add_key
from tests.events import insert_git_history
from tests.faults.conftest import Check, DedicatedServers, own_servers
from tests.faults.long.faults import Target
from tests.faults.long.model import Model
from tests.faults.long.report import faults_of, summary
from tests.faults.long.run import long_run
from tests.faults.service_process import Service
from tests.faults.test_postgres import reconnect
from utils.time.zones import zone

MINUTES = float(os.environ.get("MINUTES", "1"))
BEFORE = 100_000 if MINUTES <= 1 else 2_000_000
COUNTS = "/analytics/event-counts?start={}&end={}"
INSERT = (
    "insert into events (event_id, user_id, event_name, occurred_at) "
    "select gen_random_uuid(), 'u' || n * 7 %% 50000, 'name' || n %% 8, "
    "'2024-01-01 00:00+00'::timestamptz + n * interval '360 days' / %s "
    "from generate_series(1, %s) as n"
)
COUNTED = (
    "select count(*), count(distinct nullif(user_id, '')) from events "
    "where occurred_at >= %s and occurred_at < %s"
)
ARRIVED = "select event_id::text from events where user_id ~ '^live'"


@pytest.fixture(scope="module")
def own() -> Iterator[DedicatedServers]:
    """Servers that write as they do at work."""
    with own_servers({"max_connections": "80", "max_wal_size": "4GB"}) as servers:
        yield servers


@pytest.fixture
def fault_url(own: DedicatedServers) -> Iterator[str]:
    url = own.cluster.migrated_database()
    insert_git_history(url)
    yield url
    own.cluster.drop(url)


def fixed_answers(running: Service) -> dict[str, Any]:
    """Answers about the years before, counted by SQL; that about 2025 is one of the README."""
    answers = {COUNTS.format("2025-01-01", "2026-01-01"): {"events": 8848, "users": 262}}
    for month in range(1, 12):
        start, end = date(2024, month, 1), date(2024, month + 1, 1)
        ((events, users),) = running.query(COUNTED, start, end)
        answers[COUNTS.format(start, end)] = {"events": events, "users": users}
    return answers


def acknowledged(model: Model) -> set[str]:
    return {i for user, (_, ids) in model.ids.items() if user.startswith("live") for i in ids}


@pytest.mark.check(49)
def test_long(own: DedicatedServers, running: Service, fault_url: str, check: Check) -> None:
    """Servers and processes are killed, users erased and old events dropped, under load"""
    running.query("set timezone = 'UTC'")
    running.query(INSERT, BEFORE, BEFORE)
    running.wait_until_folded()
    admin = add_key(running.conn, "the-key-of-an-admin", "admin", name="admin")
    target = Target(own, running, fault_url, admin)
    run = long_run(target, fixed_answers(running), MINUTES * 60)
    check.record("\n     ".join(summary(run).splitlines()))
    reconnect(own, running)
    assert faults_of(run) == []
    running.wait_until_folded()
    assert {event_id for (event_id,) in running.query(ARRIVED)} == acknowledged(run.model)
    assert verify_all(fault_url, [zone("UTC")]).listed == []
