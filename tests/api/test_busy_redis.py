"""What a key holds after Redis was busy, silent or cut off while its questions came."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from tests.faults.proxy import proxy_to
from tests.live_server import identity_of, running
from tests.wait_until import wait_until

COUNTS = "/analytics/event-counts"
CLOSED = {"start": "2025-03-10", "end": "2025-03-11"}
AT_ONCE = 6
BUSY = "local ends = os.clock() + 0.4; while os.clock() < ends do end"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@contextmanager
def busy(client: redis.Redis) -> Iterator[None]:
    """Redis does something else for 0.4 s, which is longer than a request waits for it."""
    started = threading.Thread(target=client.eval, args=(BUSY, 0))
    started.start()
    yield
    started.join()


def ask(service: httpx.Client, first: int = 0) -> list[int]:
    """The statuses of as many questions at a time as a key may have."""

    def status(n: int) -> int:
        return service.get(COUNTS, params={**CLOSED, "event": f"e{first + n}"}).status_code

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(status, range(AT_ONCE)))


def busy_slots(client: redis.Redis, service: httpx.Client) -> int:
    """Questions at a time and leases that somebody has."""
    slots = client.scan_iter(f"analytics:limit:{identity_of(service)}:*:slots")
    leases = client.scan_iter(f"analytics:*:{identity_of(service)}:*:flight")
    return sum(client.zcard(each) for each in slots) + len(list(leases))


def test_questions_while_redis_is_busy_hold_nothing_afterwards(
    database_url: str, redis_url: str, client: redis.Redis
) -> None:
    with running(
        database_url, redis_url, concurrency_limit=AT_ONCE, request_timeout_s=300
    ) as service:
        assert ask(service) == [200] * AT_ONCE
        with busy(client):
            assert ask(service, 10) == [200] * AT_ONCE
        wait_until(lambda: busy_slots(client, service) == 0, timeout_s=9)
        assert ask(service, 20) == [200] * AT_ONCE


def test_questions_whose_connection_to_redis_is_cut_hold_nothing_afterwards(
    database_url: str, redis_url: str, client: redis.Redis
) -> None:
    port = urlsplit(redis_url).port or 6379
    with (
        proxy_to(port) as proxy,
        running(
            database_url,
            redis_url.replace(f":{port}", f":{proxy.port}"),
            concurrency_limit=AT_ONCE,
            request_timeout_s=300,
        ) as service,
    ):
        wait_until(lambda: service.get("/readyz").json()["checks"]["cache"] == "ok", timeout_s=9)
        proxy.mode = "mute"
        assert ask(service) == [200] * AT_ONCE
        assert busy_slots(client, service) > 0
        proxy.cut()
        proxy.mode = "pass"
        wait_until(lambda: busy_slots(client, service) == 0, timeout_s=9)
        assert ask(service, 10) == [200] * AT_ONCE
