"""DELETE users/{user_id}: who may, what is told, and that nothing old is ever answered again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions.user_events import PageMeta, UserEventsAnswer
from config.database_errors import DatabaseUnavailable
from config.settings import Settings
from repo.engine.folded_tail import FOLDED_TAIL_CACHE
from repo.engine.user_ids import USER_ID_CACHE
from repo.rollups.rollup_writer import RollupWriter
from services.answering import cache_versions as cache_versions_module
from services.cache_service import CacheFailed, CacheService, Limits
from services.cached_response import CachedResponse, PreparedQuery, render
from services.container import open_resources
from services.database_identity import Identity
from services.lifecycle import erasure as erasure_module
from tests.api.test_keys import add_key
from tests.events import insert
from tests.live_server import running
from tests.problems import assert_problem
from tests.wait_until import adjusted_for_load, wait_until
from utils.time.zones import zone

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
COUNTS = "/analytics/event-counts"
MARCH = {"start": "2026-03-01", "end": "2026-04-01"}
USER = "/analytics/users/u"
HISTORY = f"{USER}/events"


@pytest.fixture
def admin(conn: connection) -> dict[str, str]:
    return add_key(conn, "an-admin", "admin", name="admin")


def events(conn: connection) -> list[str]:
    with conn.cursor() as cur:
        cur.execute("select user_id from events order by 1")
        return [user for (user,) in cur]


def test_a_user_is_erased_and_has_a_receipt(
    service: httpx.Client, conn: connection, admin: dict[str, str]
) -> None:
    insert(conn, ("u", "view", NOON), ("u", "view", NOON), ("v", "view", NOON))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    answer = service.delete(USER, headers=admin)
    assert answer.status_code == 200
    receipt = answer.json()
    named = {name: receipt[name] for name in ("events", "slots", "first_month", "last_month")}
    assert named == {
        "events": 2,
        "slots": 1,
        "first_month": "2026-03-01",
        "last_month": "2026-03-01",
    }
    assert (receipt["suppressed"], receipt["cache_cleared"]) == (False, True)
    assert receipt["columns_pending"] is True
    assert receipt["erased_at"].endswith("Z")
    assert events(conn) == ["v"]


def test_an_erased_user_stays_in_no_memory(
    service: httpx.Client, conn: connection, admin: dict[str, str]
) -> None:
    writer = RollupWriter(conn, [zone("UTC")])
    insert(conn, ("u", "view", NOON))
    writer.catch_up()
    insert(conn, ("u", "view", NOON))
    writer.step()  # folds the event, and does not write it to columns
    answer = service.get(COUNTS, params={**MARCH, "where": "@user:^u"})
    assert answer.json()["data"]["events"] == 2
    assert len(USER_ID_CACHE.ids) > 0
    assert len(FOLDED_TAIL_CACHE.tails) > 0
    assert service.delete(USER, headers=admin).status_code == 200
    assert len(USER_ID_CACHE.ids) == len(FOLDED_TAIL_CACHE.tails) == 0


def test_erasing_an_unknown_user_returns_an_empty_receipt(
    service: httpx.Client, admin: dict[str, str]
) -> None:
    for _ in range(2):
        answer = service.delete(USER, headers=admin)
        assert (answer.status_code, answer.json()["events"]) == (200, 0)


@pytest.mark.parametrize("scopes", [["read"], ["write"], ["read", "write"]])
def test_only_admins_may(service: httpx.Client, conn: connection, scopes: list[str]) -> None:
    insert(conn, ("u", "view", NOON))
    key = add_key(conn, "not-an-admin", *scopes)
    assert_problem(service.delete(USER, headers=key), 403, "forbidden")
    with httpx.Client(base_url=service.base_url) as stranger:
        assert_problem(stranger.delete(USER), 401, "unauthorized")
    assert events(conn) == ["u"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("suppress=perhaps", "suppress"),
        ("suppress=true&suppress=false", "suppress"),
        ("other=1", "(unknown)"),
        ("start=2026-01-01", "(unknown)"),
    ],
)
def test_what_is_not_understood_erases_nothing(
    service: httpx.Client, conn: connection, admin: dict[str, str], query: str, parameter: str
) -> None:
    insert(conn, ("u", "view", NOON))
    answer = service.delete(f"{USER}?{query}", headers=admin)
    assert_problem(answer, 422, "invalid-parameter", parameter)
    assert events(conn) == ["u"]


@pytest.mark.parametrize("user", ["", "%00", "x" * 257, "%C3%BC" * 129])
def test_invalid_user_ids_are_rejected(
    service: httpx.Client, admin: dict[str, str], user: str
) -> None:
    answer = service.delete(f"/analytics/users/{user}", headers=admin)
    assert_problem(answer, 422, "invalid-parameter", "user_id")


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("a%2Fevents", "a/events"),
        ("events", "events"),
        ("%25", "%"),
    ],
)
def test_a_user_may_be_called_anything(
    service: httpx.Client, conn: connection, admin: dict[str, str], path: str, user: str
) -> None:
    insert(conn, (user, "view", NOON), ("a", "view", NOON))
    answer = service.delete(f"/analytics/users/{path}", headers=admin)
    assert answer.json()["events"] == 1
    assert events(conn) == ["a"]


def test_a_history_is_not_erased_alone(
    service: httpx.Client, conn: connection, admin: dict[str, str]
) -> None:
    """Nor is the user of that name, whom nobody means."""
    insert(conn, ("u", "view", NOON), ("u/events", "view", NOON))
    answer = service.delete(HISTORY, headers=admin)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert events(conn) == ["u", "u/events"]


def test_another_method_of_a_user_is_told_which_there_is(service: httpx.Client) -> None:
    answer = service.put(USER)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"


def test_a_suppressed_user_does_not_come_back(
    service: httpx.Client, conn: connection, admin: dict[str, str]
) -> None:
    insert(conn, ("u", "view", NOON))
    receipt = service.delete(f"{USER}?suppress=true", headers=admin).json()
    assert (receipt["events"], receipt["suppressed"]) == (1, True)
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    assert events(conn) == ["v"]


def test_who_cannot_be_suppressed_in_time_is_not_erased(
    database_url: str,
    redis_url: str,
    conn: connection,
    admin: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erasure_module, "_WRITERS_TIMEOUT_S", 1)
    with running(database_url, redis_url, request_timeout_s=1) as service:
        insert(conn, ("u", "view", NOON))
        conn.cursor().execute("begin")
        insert(conn, ("v", "view", NOON))
        answer = service.delete(f"{USER}?suppress=true", headers=admin)
        assert_problem(answer, 503, "busy")
        conn.cursor().execute("commit")
    assert events(conn) == ["u", "v"]


def test_an_erasure_ends_with_its_deadline(
    database_url: str, redis_url: str, conn: connection, admin: dict[str, str]
) -> None:
    """Whoever holds the rollups' lock for longer is waited for by the command alone."""
    with running(database_url, redis_url, erase_timeout_s=1) as service:
        insert(conn, ("u", "view", NOON))
        conn.cursor().execute("begin; lock table fold_state in exclusive mode")
        assert_problem(service.delete(USER, headers=admin), 504, "too-slow")
        conn.cursor().execute("commit")
        assert events(conn) == ["u"]
        assert service.delete(USER, headers=admin).json()["events"] == 1


def test_an_erasure_has_more_time_than_a_question(
    database_url: str, redis_url: str, conn: connection, admin: dict[str, str]
) -> None:
    with running(database_url, redis_url, request_timeout_s=0.5) as service:
        insert(conn, ("u", "view", NOON))
        conn.cursor().execute("begin; lock table fold_state in exclusive mode")
        with ThreadPoolExecutor(1) as threads:
            erasing = threads.submit(service.delete, USER, headers=admin)
            time.sleep(1)
            conn.cursor().execute("commit")
            assert erasing.result().json()["events"] == 1


def test_a_service_that_stops_undoes_an_erasure(
    database_url: str, redis_url: str, conn: connection
) -> None:
    insert(conn, ("u", "view", NOON))
    conn.cursor().execute("begin; lock table fold_state in exclusive mode")

    async def stopped() -> None:
        urls: Any = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with open_resources(Settings(**urls)) as resources:
            work = resources.erasure.erase("u", suppressed=False, deadline=time.monotonic() + 60)
            erasing = asyncio.create_task(work)
            await asyncio.sleep(0.3)
        await erasing

    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(stopped())
    assert time.monotonic() - began < adjusted_for_load(5)
    conn.cursor().execute("commit")
    assert events(conn) == ["u"]


Workers = tuple[httpx.Client, httpx.Client]


@pytest.fixture
def workers(database_url: str, redis_url: str, conn: connection) -> Iterator[Workers]:
    """Two that share a cache, and keep what they answer for long."""
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running(database_url, redis_url, cache_ttl_open_s=600))
            for _ in range(2)
        )
        yield first, second


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers hear of nothing after their start."""
    monkeypatch.setattr(cache_versions_module, "_POLL_EVERY_S", 3600)


def is_cached(client: httpx.Client, path: str, **params: str) -> bool:
    return client.get(path, params=params).headers["x-cache"] == "hit"


def counts(client: httpx.Client, params: dict[str, str], events: int) -> bool:
    return bool(client.get(COUNTS, params=params).json()["data"]["events"] == events)


@pytest.mark.usefixtures("deaf")
def test_a_cached_history_is_invalid_on_all_workers_at_once(
    workers: Workers, admin: dict[str, str]
) -> None:
    first, second = workers
    first.get(HISTORY)
    assert is_cached(second, HISTORY)
    first.delete(USER, headers=admin)
    for client in workers:
        assert client.get(HISTORY).json()["data"] == []


@pytest.mark.usefixtures("deaf")
def test_a_cached_history_is_not_served_stale_after_an_erasure(
    database_url: str, redis_url: str, conn: connection, admin: dict[str, str]
) -> None:
    """At that very moment, before any worker has heard of it."""
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    with running(database_url, redis_url, cache_ttl_open_s=1) as service:
        for user in ("u", "v"):
            assert len(service.get(f"/analytics/users/{user}/events").json()["data"]) == 1
        service.get(COUNTS, params=MARCH)
        service.delete(USER, headers=admin)
        conn.cursor().execute("alter table events rename to hidden")
        time.sleep(1.1)
        assert_problem(service.get(HISTORY), 503, "unavailable")


def test_cached_responses_from_before_an_erasure_soon_become_invalid(
    workers: Workers, admin: dict[str, str]
) -> None:
    """Those about months as well as those about what goes on."""
    first, second = workers
    ranges: list[dict[str, str]] = [MARCH, {"start": "2026-03-01"}, {"last": "2000d"}]
    for each in ranges:
        assert counts(first, each, 2)
        wait_until(partial(is_cached, second, COUNTS, **each), timeout_s=5)
    first.delete(USER, headers=admin)
    for each in ranges:
        for client in workers:
            wait_until(partial(counts, client, each, 1), timeout_s=1)


def test_answers_about_other_months_are_kept(workers: Workers, admin: dict[str, str]) -> None:
    first, second = workers
    april = {"start": "2026-04-01", "end": "2026-05-01"}
    wait_until(partial(is_cached, second, COUNTS, **april), timeout_s=5)
    first.delete(USER, headers=admin)
    time.sleep(0.5)
    assert is_cached(second, COUNTS, **april)


def test_a_stale_response_is_looked_up_again_before_it_is_served(
    database_url: str, redis_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been found before the erasure, and PostgreSQL be away only since."""
    insert(conn, ("u", "view", NOON))
    with running(database_url, redis_url, cache_ttl_open_s=1) as service:
        service.get(HISTORY)
        time.sleep(1.1)
        look_up = CacheService.look_up

        async def found_just_before(self: CacheService, *given: object, **more: object) -> object:
            page = await look_up(self, *given, **more)  # type: ignore[arg-type]
            await self.purge_users()
            return page

        monkeypatch.setattr(CacheService, "look_up", found_just_before)
        conn.cursor().execute("alter table events rename to hidden")
        assert_problem(service.get(HISTORY), 503, "unavailable")


def test_responses_computed_before_an_erasure_are_not_cached_after_it(redis_url: str) -> None:
    """Though it is computed slowly, and written down when all is over."""

    async def stored(between: Callable[[CacheService], object]) -> CachedResponse | None:
        cache = CacheService(redis_url, 1, request_s=10, stale_s=60, identity=Identity())
        query = PreparedQuery(
            "user_events", "a-history", None, None, "", "json", False, lambda _: answer()
        )
        page = render(query, answer(), compute_s=1, fresh_s=60)
        await cache.purge_users()
        await asyncio.sleep(0.002)
        lookup = await cache.look_up(query.key, Limits())
        await between(cache)  # type: ignore[misc]
        await cache.release(query.key, Limits(), lookup, page)
        cached = await cache.get(query.key)
        await cache._writer.call("DEL", query.key)
        await cache.close()
        return cached

    assert asyncio.run(stored(CacheService.ping)) is not None
    assert asyncio.run(stored(CacheService.purge_users)) is None


def answer() -> UserEventsAnswer:
    now = datetime.now(UTC)
    meta = PageMeta(now - timedelta(1), now, "UTC", now, now, "events", None, None)
    return UserEventsAnswer([], meta)


def test_an_unreachable_cache_is_reported_in_the_receipt(
    service: httpx.Client, admin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(_: CacheService) -> None:
        raise CacheFailed("forget")

    monkeypatch.setattr(CacheService, "purge_users", unreachable)
    answer = service.delete(USER, headers=admin)
    assert (answer.status_code, answer.json()["cache_cleared"]) == (200, False)
