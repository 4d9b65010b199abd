"""What stands in Redis: who may store a page, and garbage in the place of leads and limits."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import httpx
import pytest
import redis
from psycopg2.extensions import connection

from tests.api.test_caching import CLOSED, COUNTS, FRESH, NOON, data, pages
from tests.events import insert
from tests.live_server import identity_of, running
from tests.problems import assert_problem
from tests.slow_events import slow_down
from tests.wait_until import adjusted_for_load, wait_until

Fill = Callable[[redis.Redis, str], object]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def test_an_older_computation_does_not_overwrite_a_newer_response(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("u", "view", NOON))
    slow_down(conn, 1)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(service.get, COUNTS, params=CLOSED)
        time.sleep(0.4)
        slow_down(conn, 0)
        conn.cursor().execute(
            "insert into stored_events (event_id, user_id, event_name, occurred_at) "
            "values (gen_random_uuid(), 'v', 'view', %s)",
            (NOON,),
        )
        assert data(service.get(COUNTS, params=CLOSED, headers=FRESH))["events"] == 2
        assert data(slow.result())["events"] == 1
    cached = service.get(COUNTS, params=CLOSED)
    assert cached.headers["x-cache"] == "hit"
    assert data(cached)["events"] == 2


@pytest.mark.parametrize(
    "fill",
    [
        lambda client, key: client.set(key, "garbage"),
        lambda client, key: client.set(key, "garbage", ex=3600),
        lambda client, key: client.lpush(key, "garbage"),
    ],
)
def test_garbage_in_the_lease_key_does_not_block_requests(
    service: httpx.Client, client: redis.Redis, fill: Fill
) -> None:
    service.get(COUNTS, params=CLOSED)
    (page,) = pages(client, service)
    client.delete(page)
    fill(client, f"{page.decode()}:flight")
    answer = service.get(COUNTS, params=CLOSED)
    assert answer.elapsed.total_seconds() < adjusted_for_load(1)
    assert data(answer)["events"] == 0
    assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "hit"


def test_a_lease_of_another_request_is_not_renewed(
    service: httpx.Client, client: redis.Redis, conn: connection
) -> None:
    service.get(COUNTS, params=CLOSED)
    (page,) = pages(client, service)
    client.delete(page)
    slow_down(conn, 1.5)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(service.get, COUNTS, params=CLOSED)
        time.sleep(0.2)
        client.set(page + b":flight", "another one", px=500)
        time.sleep(0.9)
        assert client.get(page + b":flight") is None
        assert slow.result().status_code == 200


def test_a_page_of_great_depth_is_replaced(service: httpx.Client, client: redis.Redis) -> None:
    service.get(COUNTS, params=CLOSED)
    (page,) = pages(client, service)
    stored = cast(bytes, client.get(page))
    moments, fields = stored[:39], stored[40:]
    client.set(page, moments + b"\x98" + fields + b"\x91" * 100_000 + b"\xc0")
    assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "miss"
    assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "hit"


@pytest.mark.parametrize(
    ("part", "fill"),
    [
        ("slots", lambda client, key: client.lpush(key, "garbage")),
        ("slots", lambda client, key: client.zadd(key, {f"{n}": 9e15 for n in range(9)})),
        ("rate", lambda client, key: client.lpush(key, "garbage")),
        ("rate", lambda client, key: client.set(key, "9e15")),
        ("rate", lambda client, key: client.set(key, "nan")),
        ("rate", lambda client, key: client.set(key, "-inf")),
    ],
)
def test_garbage_is_no_limit_and_lifts_none(
    database_url: str, redis_url: str, client: redis.Redis, part: str, fill: Fill
) -> None:
    with running(database_url, redis_url, rate_limit=5, concurrency_limit=2) as service:
        fill(client, f"analytics:limit:{identity_of(service)}:1:{part}")
        answers = [service.get(COUNTS, params=CLOSED, headers=FRESH) for _ in range(4)]
        # From the cache, since a busy machine does not compute more than 5 answers per second.
        answers += [service.get(COUNTS, params=CLOSED) for _ in range(60)]
    assert [answer.status_code for answer in answers[:4]] == [200] * 4
    assert re.fullmatch(r'"second";r=[0-4];t=1', answers[0].headers["ratelimit"])
    assert 429 in {answer.status_code for answer in answers}


def test_no_lease_is_taken_for_what_is_not_kept(
    database_url: str, redis_url: str, client: redis.Redis, conn: connection
) -> None:
    """Other processes would wait for a page that they never find."""
    slow_down(conn, 0.5)

    def leases_while_asked(**params: str) -> int:
        pattern = f"analytics:*:{identity_of(service)}:event_counts:*:flight"
        with ThreadPoolExecutor(1) as threads:
            slow = threads.submit(service.get, COUNTS, params=params)
            seen = set()
            while not slow.done():
                seen |= set(client.scan_iter(pattern))
            assert slow.result().status_code == 200
        return len(seen)

    with running(database_url, redis_url, cache_ttl_open_s=0) as service:
        assert leases_while_asked(start="2025-03-10") == 0
        assert leases_while_asked(**CLOSED, explain="true") == 0
    with running(database_url, redis_url) as service:
        assert leases_while_asked(start="2025-03-10") == 1


def test_a_joined_request_keeps_its_own_deadline(
    database_url: str, redis_url: str, conn: connection
) -> None:
    slow_down(conn, 10)
    with (
        running(database_url, redis_url, request_timeout_s=4) as service,
        ThreadPoolExecutor(2) as threads,
    ):
        first = threads.submit(service.get, COUNTS, params=CLOSED)
        time.sleep(2)
        second = threads.submit(service.get, COUNTS, params=CLOSED)
        time.sleep(0.5)
        slow_down(conn, 0)
        assert_problem(first.result(), 504, "too-slow")
        assert data(second.result())["events"] == 0


def test_no_request_has_to_connect_to_redis(
    database_url: str, redis_url: str, client: redis.Redis
) -> None:
    before = {one["id"] for one in client.client_list()}
    with running(database_url, redis_url):
        # One reads pages, and has the script that looks them up; one writes them.
        wait_until(
            lambda: len({one["id"] for one in client.client_list()} - before) == 2, timeout_s=9
        )


DAY_MS = 86_400_000


def set_ahead(client: redis.Redis, page: bytes, by_ms: int) -> None:
    """As if it had been stored while the clock of Redis was so far ahead."""
    stored = cast(bytes, client.get(page))
    moments = (int(stored[at : at + 13]) + by_ms for at in (0, 13, 26))
    client.set(page, b"".join(b"%013d" % instant for instant in moments) + stored[39:])


def test_a_page_that_was_stored_later_than_now_is_not_served(
    service: httpx.Client, client: redis.Redis, conn: connection
) -> None:
    service.get(COUNTS, params=CLOSED)
    (page,) = pages(client, service)
    set_ahead(client, page, DAY_MS)
    answer = service.get(COUNTS, params=CLOSED)
    assert (answer.headers["x-cache"], answer.headers["age"]) == ("miss", "0")
    assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "hit"
    set_ahead(client, page, DAY_MS)
    conn.cursor().execute("alter table events rename to hidden")
    assert_problem(service.get(COUNTS, params=CLOSED), 503, "unavailable")


def test_a_clock_that_is_set_back_a_little_changes_nothing(
    service: httpx.Client, client: redis.Redis
) -> None:
    service.get(COUNTS, params=CLOSED)
    (page,) = pages(client, service)
    set_ahead(client, page, 900)
    answer = service.get(COUNTS, params=CLOSED)
    assert (answer.headers["x-cache"], answer.headers["age"]) == ("hit", "0")
