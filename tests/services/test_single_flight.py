"""Pages computed once, in a process and across processes, on a Redis that is real."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from common.questions.user_events import PageMeta, UserEventsAnswer
from config.database_errors import DeadlineExceeded, PoolBusy
from services import cache_service
from services.answering.single_flight import CallContext, Flight, SingleFlight
from services.cache_service import CacheLookup, CacheService, Limits
from services.cached_response import CachedResponse, PreparedQuery, render
from services.database_identity import Identity
from tests.faults.proxy import proxy_to

LONG_S = 20.0
"""A request that waits for a lease nobody returns would wait so long, and fail."""
LEASE_MS = 60_000


@pytest.fixture(autouse=True)
def lasting_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not handed over or returned is missed, however slow the machine is."""
    monkeypatch.setattr(cache_service, "_FLIGHT_MS", LEASE_MS)


class Process:
    """What one process has: its connections to Redis and its flights; it computes when told to."""

    def __init__(self, url: str, query: PreparedQuery, *, fresh_s: int) -> None:
        self.cache = CacheService(url, 2, request_s=LONG_S, stale_s=60, identity=Identity())
        self.flights = SingleFlight(self.cache, self._compute, may_store=True)
        self.query = query
        self.may_end = asyncio.Event()
        self.computed = 0
        self.busy_for = "nobody"
        self._fresh_s = fresh_s

    async def look_up(self) -> CacheLookup:
        return await self.cache.look_up(self.query.key, Limits())

    def ask(
        self, lookup: CacheLookup | None, timeout_s: float = LONG_S, caller: str = ""
    ) -> "asyncio.Task[CachedResponse]":
        context = CallContext(Limits(caller), time.monotonic() + timeout_s)
        return asyncio.create_task(self.flights.fetch(self.query, context, lookup))

    def flight(self) -> Flight[CachedResponse] | None:
        return self.flights._flights.get(self.query.key)

    def waiting(self) -> int:
        """How many requests have joined the flight."""
        flight = self.flight()
        return flight.waiting if flight else 0

    async def lease(self) -> bytes | None:
        token: bytes | None = await self.cache._reader.call("GET", f"{self.query.key}:flight")
        return token

    async def grant(self, token: str) -> None:
        key = f"{self.query.key}:flight"
        await self.cache._reader.call("SET", key, token, "PX", LEASE_MS)

    async def revoke(self) -> None:
        await self.cache._reader.call("DEL", f"{self.query.key}:flight")

    async def _compute(self, query: PreparedQuery, context: CallContext) -> CachedResponse:
        self.computed += 1
        try:
            async with asyncio.timeout(context.deadline - time.monotonic()):
                await self.may_end.wait()
        except TimeoutError:
            raise DeadlineExceeded from None
        if context.limits.caller == self.busy_for:
            raise PoolBusy
        return render(query, answer(), compute_s=0, fresh_s=self._fresh_s)


def answer() -> UserEventsAnswer:
    now = datetime.now(UTC)
    return UserEventsAnswer(
        [], PageMeta(now - timedelta(1), now, "UTC", now, now, "events", None, None)
    )


def run(url: str, test: Callable[[Process, Process], Awaitable[None]], *, fresh_s: int = 0) -> None:
    """The test with two processes that are asked for the same page."""

    async def run_test() -> None:
        name = f"test:{uuid4()}"
        query = PreparedQuery(
            "user_events", name, None, None, "", "json", False, lambda _: answer()
        )
        first, second = (Process(url, query, fresh_s=fresh_s) for _ in range(2))
        try:
            await test(first, second)
        finally:
            await first.cache._reader.call("DEL", query.key, f"{query.key}:flight")
            await first.cache.close()
            await second.cache.close()

    asyncio.run(run_test())


async def until(has_happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while not await has_happened():
            await asyncio.sleep(0.01)


def test_a_lease_is_handed_to_the_flight_that_waits_for_it(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        await process.grant("another process")
        waiting = process.ask(await process.look_up())
        await asyncio.sleep(0.1)
        process.may_end.set()
        await process.revoke()
        granted = await process.look_up()  # before the flight looks again
        joined = process.ask(granted)
        assert await waiting == await joined
        assert process.computed == 1
        assert await process.lease() is None

    run(redis_url, test)


def test_a_lease_granted_during_the_computation_is_released_after_it(redis_url: str) -> None:
    """The first request had no lease: Redis was unreachable."""

    async def test(process: Process, other: Process) -> None:
        first = process.ask(None)
        second = process.ask(await process.look_up())
        await until(lambda: _equals(process.waiting(), 2))
        assert not (await other.look_up()).holds_lease
        process.may_end.set()
        assert await first == await second
        assert await process.lease() is None
        assert process.computed == 1

    run(redis_url, test)


def test_a_cancelled_request_leaves_its_lease_to_the_flight(redis_url: str) -> None:
    async def test(process: Process, other: Process) -> None:
        first = process.ask(None)
        second = process.ask(await process.look_up())
        await until(lambda: _equals(process.waiting(), 2))
        second.cancel()
        await asyncio.wait({second})
        assert await process.lease() is not None
        process.may_end.set()
        await first
        assert await process.lease() is None

    run(redis_url, test)


def test_the_lease_is_released_when_all_requests_are_cancelled(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        task = process.ask(await process.look_up())
        await until(lambda: _equals(process.computed, 1))
        task.cancel()
        await asyncio.wait({task})
        await until(lambda: _equals(process.lease(), None))

    run(redis_url, test)


def test_a_cacheable_response_is_computed_by_one_process(redis_url: str) -> None:
    async def test(first: Process, second: Process) -> None:
        tasks = [process.ask(await process.look_up()) for process in (first, second)]
        await until(lambda: _equals(first.computed, 1))
        first.may_end.set()
        pages = [await each for each in tasks]
        assert pages[0] == pages[1]
        assert (first.computed, second.computed) == (1, 0)

    run(redis_url, test, fresh_s=60)


def test_an_uncached_response_is_waited_for_once(redis_url: str) -> None:
    """The lease goes from one request of the other process to the next: none leaves a page."""

    async def test(process: Process, _: Process) -> None:
        await process.grant("one of the other process")
        process.may_end.set()
        task = process.ask(await process.look_up())
        await asyncio.sleep(0.1)
        assert process.computed == 0
        await process.grant("the next of it")
        await task
        assert process.computed == 1
        assert await process.lease() == b"the next of it"

    run(redis_url, test)


def test_a_flight_ends_at_its_own_deadline(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        first = process.ask(await process.look_up(), timeout_s=0.5)
        later = [process.ask(await process.look_up()) for _ in range(3)]
        with pytest.raises(DeadlineExceeded):
            await first
        await until(lambda: _equals(process.computed, 2))
        process.may_end.set()
        pages = [await each for each in later]
        assert pages == [pages[0]] * 3
        assert process.computed == 2
        assert await process.lease() is None

    run(redis_url, test)


def test_a_flight_that_waits_for_another_process_ends_at_its_own_deadline(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        await process.grant("another process")
        first = process.ask(await process.look_up(), timeout_s=0.5)
        later = process.ask(await process.look_up())
        flight = process.flight()
        with pytest.raises(DeadlineExceeded):
            await first
        await until(lambda: _equals(process.flight() is not flight, True))
        await process.revoke()
        process.may_end.set()
        await later
        assert process.computed == 1

    run(redis_url, test)


def test_a_caller_without_connections_is_refused_alone(redis_url: str) -> None:
    """Connections are shared by caller: one that holds its part of them does not stop others."""

    async def test(process: Process, _: Process) -> None:
        process.busy_for = "many"
        lookup = await process.look_up()
        refused = [process.ask(each, caller="many") for each in (lookup, None)]
        other = process.ask(await process.look_up(), caller="one")
        await until(lambda: _equals(process.waiting(), 3))
        process.may_end.set()
        for each in refused:
            with pytest.raises(PoolBusy):
                await each
        await other
        assert process.computed == 2

    run(redis_url, test)


def test_lease_renewal_is_retried_after_a_failure(redis_url: str) -> None:
    with proxy_to(urlsplit(redis_url).port or 6379) as proxy:
        url = redis_url.replace(f":{urlsplit(redis_url).port}", f":{proxy.port}")

        async def test(process: Process, _: Process) -> None:
            task = process.ask(await process.look_up())
            key = f"{process.query.key}:flight"
            await until(lambda: _equals(process.computed, 1))
            proxy.refuse()
            await asyncio.sleep(0.5)  # one sign of life fails
            proxy.mode = "pass"
            other = CacheService(redis_url, 2, request_s=LONG_S, stale_s=60, identity=Identity())
            await other._reader.call("PEXPIRE", key, LEASE_MS // 2)

            async def renewed() -> bool:
                return int(await other._reader.call("PTTL", key)) > LEASE_MS // 2

            await until(renewed)
            await other.close()
            process.may_end.set()
            await task

        run(url, test)


async def _equals(value: object, expected: object) -> bool:
    return (await value if isinstance(value, Awaitable) else value) == expected


def test_a_response_looked_up_at_a_future_time_is_not_cached(redis_url: str) -> None:
    """It was looked up while the clock was ahead: nobody can tell which erasures it has seen."""

    async def test(process: Process, _: Process) -> None:
        process.may_end.set()
        lookup = await process.look_up()
        await process.ask(replace(lookup, now_ms=lookup.now_ms + 86_400_000))
        assert await process.cache.get(process.query.key) is None
        await process.ask(await process.look_up())
        assert await process.cache.get(process.query.key) is not None

    run(redis_url, test, fresh_s=60)


def test_an_erasure_recorded_at_a_future_time_does_not_disable_caching(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        process.may_end.set()
        lookup = await process.look_up()
        await process.cache.purge_users()
        mark = process.cache._purge_key
        tomorrow = int(await process.cache._reader.call("GET", mark)) + 86_400_000
        await process.cache._reader.call("SET", mark, str(tomorrow), "PX", 86_400_000)
        await process.ask(lookup)
        assert await process.cache.get(process.query.key) is None
        await asyncio.sleep(0.01)
        await process.ask(await process.look_up())
        assert await process.cache.get(process.query.key) is not None
        await process.cache._reader.call("DEL", mark)

    run(redis_url, test, fresh_s=60)
