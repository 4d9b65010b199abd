"""What `/metrics` of a running service shows of the business, its servers and its pools."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.events import insert
from tests.faults.service_process import ROOT, Service, service
from tests.servers import Cluster
from tests.wait_until import wait_until

POSTGRESQL = 'analytics_up{server="postgresql"}'
REDIS = 'analytics_up{server="redis"}'
TODAY = 'analytics_active_users{period="today"}'


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> Iterator[str]:
    made = cluster.migrated_database()
    yield made
    cluster.drop(made)


@pytest.fixture(scope="module")
def running(url: str, redis_url: str) -> Iterator[Service]:
    """With a folder, and a few views and another event."""
    with service(url, redis_url, ANALYTICS_METRIC_EVENTS="view, buy") as started:
        now = datetime.now(UTC)
        insert(started.conn, *((user, "view", now) for user in "uvw"), ("u", "left", now))
        wait_until(lambda: counts(started) == {"view": 3, "buy": 0, "other": 1}, timeout_s=10)
        yield started


def counts(running: Service) -> dict[str, float]:
    series = 'analytics_events_total{event_name="'
    metrics = running.metrics()
    return {name[len(series) : -2]: metrics[name] for name in metrics if name.startswith(series)}


def shows(running: Service, series: str, value: float | None) -> None:
    wait_until(lambda: running.metrics().get(series) == value, timeout_s=12)


def test_events_are_counted_once_whoever_folds_them(running: Service, url: str) -> None:
    insert(running.conn, ("u", "buy", datetime.now(UTC)))
    for option in ("--once", "--rebuild"):
        command = [sys.executable, str(ROOT / "main.py"), "rollup", option]
        environment = {**os.environ, "DATABASE_URL": url}
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    wait_until(lambda: counts(running)["buy"] == 1, timeout_s=10)
    assert counts(running) == {"view": 3, "buy": 1, "other": 1}


def test_active_users_disappear_without_a_rollup_worker(running: Service) -> None:
    shows(running, TODAY, 3)
    before = counts(running)
    (folder,) = running.rollup_worker_pids()
    os.kill(folder, signal.SIGKILL)
    shows(running, TODAY, None)
    assert counts(running) == before
    shows(running, TODAY, 3)
    assert counts(running) == before


def test_a_server_that_is_away_is_told(running: Service) -> None:
    shows(running, TODAY, 3)
    assert [running.metrics()[series] for series in (POSTGRESQL, REDIS)] == [1, 1]
    running.cache.refuse()
    shows(running, REDIS, 0)
    running.cache.mode = "pass"
    shows(running, REDIS, 1)
    assert running.metrics()[POSTGRESQL] == 1
    running.database.refuse()
    shows(running, POSTGRESQL, 0)
    shows(running, TODAY, None)
    running.database.mode = "pass"
    shows(running, POSTGRESQL, 1)
    assert running.metrics()[REDIS] == 1


def test_both_pools_are_told(running: Service) -> None:
    shows(running, 'analytics_pool_size{pool="questions"}', 10)
    shows(running, 'analytics_pool_size{pool="events"}', 6)
    assert running.metrics()['analytics_pool_waiting{pool="events"}'] == 0
