"""Keys and limits on two workers."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.test_keys import add_key
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import ask_all
from tests.faults.service_process import COUNTS, Service, service
from tests.faults.test_postgres import statuses

RATE = 50
OPEN_TO_ALL = {"/", "/healthz", "/readyz"}


@pytest.fixture
def limited(own: DedicatedServers, fault_url: str) -> Iterator[Service]:
    with service(fault_url, own.endpoints.redis_url, ANALYTICS_RATE_LIMIT=str(RATE)) as started:
        yield started


@pytest.mark.check(36)
def test_isolation(running: Service, check: Check) -> None:
    """What one key has warmed, another one without the scope does not get"""
    paths = [COUNTS, "/analytics/top-events?last=7d", "/analytics/users/u/events"]
    writer = add_key(running.conn, "a-writer", "write")
    time.sleep(2.5)
    for headers, target_rate in ((running.headers, 200), (writer, 403), ({}, 401)):
        replies = ask_all(running.port, paths * 10, headers, at_once=4)
        assert set(statuses(replies)) == {target_rate}
    check.record("read 200, write 403, none 401, from the cache and without")


@pytest.mark.check(37)
def test_keys_are_needed(running: Service, check: Check) -> None:
    """No, wrong, ended and garbled keys"""
    ended = add_key(running.conn, "ended", "read")
    running.query("update api_keys set ends_at = now() where name = 'another'")
    wrong: list[dict[str, str]] = [
        {},
        ended,
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic nonsense"},
        {"Authorization": "Bearer"},
        {"Authorization": ""},
        {"Authorization": f"{running.headers['Authorization']}x"},
    ]
    replies = [ask_all(running.port, [COUNTS], headers, at_once=1)[0] for headers in wrong]
    assert {reply.status for reply in replies} == {401}
    assert all(reply.headers["www-authenticate"].startswith("Bearer") for reply in replies)
    paths = httpx.get(f"{running.base}/openapi.json").json()["paths"]
    open_to_all = {
        path
        for path, operations in paths.items()
        for method in operations
        if httpx.request(
            method, running.base + path.format(user_id="u", property="key")
        ).status_code
        != 401
    }
    check.record(f"{len(wrong)} of {len(wrong)} 401; without a key: {sorted(open_to_all)}")
    assert open_to_all == OPEN_TO_ALL


@pytest.mark.check(38)
def test_limits_hold(limited: Service, check: Check) -> None:
    """More than a key may ask, on two workers, from forged addresses"""
    time.sleep(1.1)
    end = time.monotonic() + 4
    began = time.monotonic()
    replies = ask_all(
        limited.port,
        (COUNTS for _ in range(100_000)),
        {**limited.headers, "X-Forwarded-For": "10.1.2.3"},
        at_once=8,
        until=lambda: time.monotonic() > end,
    )
    allowed = statuses(replies)[200]
    # A full bucket at the beginning, then what flows in.
    target_rate = RATE + RATE * (time.monotonic() - began)
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == f'"second";q={RATE};w=1'
    assert abs(allowed / target_rate - 1) <= 0.05
    limited.cache.refuse()
    without = ask_all(limited.port, [COUNTS] * 200, limited.headers, at_once=4)
    metrics = limited.metrics()
    check.record(f"{allowed} of {target_rate:.0f} allowed; without Redis {statuses(without)}")
    assert statuses(without) == {200: 200}
    assert metrics['analytics_limited_requests_total{limit="unknown"}'] >= 200
