"""What is left of users who were erased, whatever fails meanwhile."""

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
import redis

from tests.api.test_keys import add_key
from tests.events import insert
from tests.faults.conftest import Check, Own
from tests.faults.service import Service, service
from tests.problems import assert_problem
from tests.waiting import wait_until

NOW = datetime.now(UTC)
USER = "/analytics/users/u"
HISTORY = f"{USER}/events"
ASKED = 20
HISTORIES = "analytics:*:user_events:*"


def kept_long(own: Own, url: str) -> AbstractContextManager[Service]:
    return service(url, own.endpoints.redis_url, ANALYTICS_CACHE_OPEN_S="600")


def keep_history(running: Service) -> dict[str, str]:
    """In Redis; with the key of an admin."""
    insert(running.conn, ("u", "view", NOW))
    running.settle()
    assert len(running.get(HISTORY).json()["data"]) == 1
    return add_key(running.conn, "an-admin", "admin", name="admin")


def erase(running: Service, admin: dict[str, str]) -> httpx.Response:
    return httpx.delete(running.base + USER, headers=admin, timeout=30)


def is_erased(running: Service) -> bool:
    return running.query("select count(*) from events") == [(0,)]


def seconds_until_cleared(store: "redis.Redis") -> float:
    began = time.monotonic()
    wait_until(lambda: not list(store.scan_iter(HISTORIES, count=1000)), within_s=15)
    return time.monotonic() - began


@contextmanager
def cache_of(own: Own) -> Iterator["redis.Redis"]:
    """Without what other tests have left there."""
    with redis.Redis.from_url(own.endpoints.redis_url) as store:
        store.flushall()
        yield store


@pytest.mark.check(73)
def test_erased_while_redis_is_away(own: Own, fault_url: str, check: Check) -> None:
    """Redis away during an erasure, and back as it was: cleared, and PostgreSQL may go as well"""
    with (
        cache_of(own) as store,
        kept_long(own, fault_url) as running,
    ):
        admin = keep_history(running)
        running.cache.refuse()
        assert erase(running, admin).json()["cache_cleared"] is False
        assert running.get(HISTORY).json()["data"] == []
        time.sleep(1)
        assert list(store.scan_iter(HISTORIES, count=1000)) != []
        running.database.refuse()
        running.cache.mode = "pass"
        statuses = {running.get(HISTORY).status_code for _ in range(ASKED)}
        assert statuses == {503}
        check.measured(f"{seconds_until_cleared(store):.1f} s; asked {ASKED} times")


@pytest.mark.check(74)
def test_cancelled_erasures(own: Own, fault_url: str, check: Check) -> None:
    """An erasure whose client hangs up or whose service is stopped: all or nothing, cache too"""
    with cache_of(own) as store:
        with kept_long(own, fault_url) as running:
            admin = keep_history(running)
            with held_up(running):
                hang_up_on(running, admin)
            wait_until(partial(is_erased, running), within_s=10)
            hung_up_s = seconds_until_cleared(store)
            insert(running.conn, ("u", "view", NOW))
            with ThreadPoolExecutor(1) as threads, held_up(running):
                erasing = threads.submit(erase, running, admin)
                time.sleep(0.5)
                running.process.send_signal(signal.SIGTERM)
                running.process.wait(20)
                assert_problem(erasing.result(), 503, "unavailable")
            assert not is_erased(running)
        check.measured(f"hung up: {hung_up_s:.1f} s")


@contextmanager
def held_up(running: Service) -> Iterator[None]:
    """Erasures wait for the end of the block."""
    running.query("begin")
    running.query("lock table fold_state in exclusive mode")
    yield
    running.query("commit")


def hang_up_on(running: Service, admin: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(
            f"DELETE {USER} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {admin['Authorization']}\r\n\r\n".encode()
        )
        wait_until(partial(is_waiting, running), within_s=10)


def is_waiting(running: Service) -> bool:
    return running.query("select count(*) from pg_locks where not granted") == [(1,)]


@pytest.mark.check(75)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_ended_between_commit_and_cache(
    own: Own, fault_url: str, check: Check, end: signal.Signals
) -> None:
    """A service that ends when an erasure is committed and the cache not cleared: the next does"""
    with cache_of(own) as store:
        with kept_long(own, fault_url) as running:
            admin = keep_history(running)
            running.cache.mode = "swallow"
            with ThreadPoolExecutor(1) as threads:
                threads.submit(erase, running, admin)
                wait_until(partial(is_erased, running), within_s=10)
                running.process.send_signal(end)
                running.process.wait(20)
        assert list(store.scan_iter(HISTORIES, count=1000)) != []
        began = time.monotonic()
        with service(fault_url, own.endpoints.redis_url):
            seconds_until_cleared(store)
            took_s = time.monotonic() - began
        check.measured(f"{end.name}: {took_s:.1f} s, its start included")
