"""Whatever fails after an erasure is committed, Redis is cleared of the user soon."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
import redis
from psycopg2.extensions import connection

from config.settings import Settings
from repo.lifecycle.erasure import EraseRepo
from services.answering import cache_versions as cache_versions_module
from services.background.cache_purger import CachePurger
from services.cache_service import CacheFailed, CacheService
from services.container import Resources, open_resources
from tests.api.test_erase import HISTORY, NOON, USER
from tests.api.test_keys import add_key
from tests.cli import run_cli
from tests.events import insert
from tests.live_server import identity_of, running, scrape, value
from tests.wait_until import wait_until

METRIC = "analytics_cache_clearing_pending"


@pytest.fixture
def store(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def histories(store: "redis.Redis", service: httpx.Client) -> set[bytes]:
    """The keys of this service's histories."""
    return set(store.scan_iter(f"analytics:*:{identity_of(service)}:user_events:*", count=1000))


def is_cleared(store: "redis.Redis", service: httpx.Client) -> bool:
    return not histories(store, service)


def cache_history(service: httpx.Client, conn: connection, store: "redis.Redis") -> set[bytes]:
    insert(conn, ("u", "view", NOON))
    assert len(service.get(HISTORY).json()["data"]) == 1
    cached = histories(store, service)
    assert len(cached) == 1
    return cached


@pytest.fixture
def admin(conn: connection) -> dict[str, str]:
    return add_key(conn, "an-admin", "admin", name="admin")


def test_a_failed_purge_is_retried(
    service: httpx.Client,
    conn: connection,
    admin: dict[str, str],
    store: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what is pending is shown for as long as it is."""
    cache_history(service, conn, store)

    async def unreachable(_: CacheService) -> None:
        raise CacheFailed("forget")

    with monkeypatch.context() as patched:
        patched.setattr(CacheService, "purge_users", unreachable)
        assert service.delete(USER, headers=admin).json()["cache_cleared"] is False
        wait_until(lambda: value(scrape(service), METRIC) == 1, timeout_s=5)
        wait_until(lambda: "erased users" in ready(service), timeout_s=5)
        assert not is_cleared(store, service)
    wait_until(partial(is_cleared, store, service), timeout_s=10)
    wait_until(lambda: value(scrape(service), METRIC) == 0, timeout_s=5)
    wait_until(lambda: ready(service) == "ok", timeout_s=5)


def ready(service: httpx.Client) -> str:
    return str(service.get("/readyz").json()["checks"]["cache"])


def test_other_processes_purge_after_an_erasure_that_did_not(
    service: httpx.Client, conn: connection, store: "redis.Redis"
) -> None:
    cache_history(service, conn, store)
    EraseRepo(conn).erase("u")
    wait_until(partial(is_cleared, store, service), timeout_s=10)


def test_a_service_that_starts_clears_what_was_left(
    database_url: str, redis_url: str, conn: connection, store: "redis.Redis"
) -> None:
    with running(database_url, redis_url, cache_ttl_open_s=600) as service:
        cache_history(service, conn, store)
    EraseRepo(conn).erase("u")
    with running(database_url, redis_url) as service:
        wait_until(partial(is_cleared, store, service), timeout_s=10)


def test_a_cache_that_comes_back_as_it_was_is_cleared_again(
    service: httpx.Client, conn: connection, admin: dict[str, str], store: "redis.Redis"
) -> None:
    (key,) = cache_history(service, conn, store)
    before = store.dump(key)
    assert before is not None
    assert service.delete(USER, headers=admin).json()["cache_cleared"] is True
    assert is_cleared(store, service)
    (marker,) = store.scan_iter(f"{marker_of(service, conn)}*")
    store.restore(key, 600_000, before)
    time.sleep(1.5)
    assert not is_cleared(store, service), "as long as it says that it was cleared it is believed"
    store.delete(marker)
    wait_until(partial(is_cleared, store, service), timeout_s=10)


def marker_of(service: httpx.Client, conn: connection) -> str:
    """Where Redis says that it was cleared since the last erasure."""
    return f"analytics:cleared:{identity_of(service)}:{erasure(conn)}"


def erasure(conn: connection) -> str:
    with conn.cursor() as cur:
        cur.execute("select erasure_id::text from erasures order by number desc limit 1")
        return str((cur.fetchone() or ("none",))[0])


def test_a_worker_that_hears_of_an_erasure_late_clears_once_more(
    database_url: str, redis_url: str, conn: connection, store: "redis.Redis"
) -> None:
    """As one on a replica does: what it stored meanwhile may tell of the user."""
    EraseRepo(conn).erase("somebody")
    with running(database_url, redis_url) as service:
        wait_until(lambda: bool(store.exists(marker_of(service, conn))), timeout_s=10)
        time.sleep(1.2)
        cache_history(service, conn, store)
        with conn.cursor() as cur:  # whoever clears before this worker knows
            cur.execute("begin")
            receipt = "insert into erasures (erasure_id, proof, events, slots, spans, days, "
            cur.execute(
                receipt + "suppressed) values (gen_random_uuid(), sha256('x'), 0, 0, 0, 0, false) "
                "returning erasure_id::text"
            )
            (number,) = cur.fetchone() or ("",)
            store.set(f"analytics:cleared:{identity_of(service)}:{number}", "1")
            cur.execute("commit")
        wait_until(partial(is_cleared, store, service), timeout_s=10)


Work = Callable[[Resources], Coroutine[Any, Any, None]]


def with_resources(database_url: str, redis_url: str, work: Work) -> None:
    async def run() -> None:
        urls: Any = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with open_resources(Settings(**urls)) as resources:
            await work(resources)

    asyncio.run(run())


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the erasure itself clears: nobody hears of it, and nobody looks."""
    monkeypatch.setattr(cache_versions_module, "_POLL_EVERY_S", 3600)

    async def idle(_: CachePurger) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(CachePurger, "poll_forever", idle)


def page_of_a_user(store: "redis.Redis") -> str:
    """Any value under a key that belongs to one user's question."""
    key = "analytics:0:nobody:user_events:json:plain:0"
    store.set(key, "a page", ex=60)
    return key


def users(conn: connection) -> list[str]:
    with conn.cursor() as cur:
        cur.execute("select user_id from events")
        return [user for (user,) in cur]


@pytest.mark.usefixtures("deaf")
def test_an_erasure_whose_caller_is_gone_comes_to_its_end(
    database_url: str, redis_url: str, conn: connection, store: "redis.Redis"
) -> None:
    insert(conn, ("u", "view", NOON))
    key = page_of_a_user(store)

    async def cancelled(resources: Resources) -> None:
        conn.cursor().execute("begin; lock table fold_state in exclusive mode")
        deadline = time.monotonic() + 60
        erasing = asyncio.create_task(
            resources.erasure.erase("u", suppressed=False, deadline=deadline)
        )
        await asyncio.sleep(0.3)
        erasing.cancel()
        await asyncio.gather(erasing, return_exceptions=True)
        assert erasing.cancelled()
        conn.cursor().execute("commit")
        while users(conn):  # within its deadline
            await asyncio.sleep(0.01)

    with_resources(database_url, redis_url, cancelled)
    assert users(conn) == []
    assert not store.exists(key)


@pytest.mark.usefixtures("deaf")
def test_a_service_that_stops_clears_the_cache_of_what_is_committed(
    database_url: str,
    redis_url: str,
    conn: connection,
    store: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert(conn, ("u", "view", NOON))
    key = page_of_a_user(store)
    forget = CacheService.purge_users
    begun = asyncio.Event()

    async def slow(self: CacheService) -> None:
        begun.set()
        await asyncio.sleep(0.5)
        await forget(self)

    monkeypatch.setattr(CacheService, "purge_users", slow)

    async def stopped(resources: Resources) -> None:
        deadline = time.monotonic() + 60
        erasing = asyncio.create_task(
            resources.erasure.erase("u", suppressed=False, deadline=deadline)
        )
        await begun.wait()
        erasing.cancel()

    with_resources(database_url, redis_url, stopped)
    assert users(conn) == []
    assert not store.exists(key)


def test_the_command_names_what_is_left_to_do(redis_url: str, database_url: str) -> None:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"}
    done = run_cli("erase", "u", "--yes", **urls)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["cache_cleared"] is False
    assert "Services that can reach PostgreSQL do not use them" in done.stderr
