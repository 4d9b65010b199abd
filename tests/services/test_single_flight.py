"""Pages computed once, in a process and across processes, on a Redis that is real."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from common.answers import PageMeta, UserEventsAnswer
from config.failures import DeadlineExceeded, PoolBusy
from services import cache_service
from services.cache_service import CacheService, Found, Limits
from services.flights import Flight
from services.identity import Identity
from services.pages import Asked, Page, write
from services.single_flight import SingleFlight, Visit
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

    def __init__(self, url: str, asked: Asked, *, fresh_s: int) -> None:
        self.cache = CacheService(url, 2, request_s=LONG_S, stale_s=60, identity=Identity())
        self.flights = SingleFlight(self.cache, self._compute, stores=True)
        self.asked = asked
        self.may_end = asyncio.Event()
        self.computed = 0
        self.busy_for = "nobody"
        self._fresh_s = fresh_s

    async def look_up(self) -> Found:
        return await self.cache.look_up(self.asked.key, Limits())

    def ask(
        self, found: Found | None, within_s: float = LONG_S, caller: str = ""
    ) -> "asyncio.Task[Page]":
        visit = Visit(Limits(caller), time.monotonic() + within_s)
        return asyncio.create_task(self.flights.page(self.asked, visit, found))

    def flight(self) -> Flight[Page] | None:
        return self.flights._flights.get(self.asked.key)

    def waiting(self) -> int:
        """How many requests have joined the flight."""
        flight = self.flight()
        return flight.waiting if flight else 0

    async def lease(self) -> bytes | None:
        held: bytes | None = await self.cache._reading.call("GET", f"{self.asked.key}:flight")
        return held

    async def grant(self, token: str) -> None:
        key = f"{self.asked.key}:flight"
        await self.cache._reading.call("SET", key, token, "PX", LEASE_MS)

    async def revoke(self) -> None:
        await self.cache._reading.call("DEL", f"{self.asked.key}:flight")

    async def _compute(self, asked: Asked, visit: Visit) -> Page:
        self.computed += 1
        try:
            async with asyncio.timeout(visit.deadline - time.monotonic()):
                await self.may_end.wait()
        except TimeoutError:
            raise DeadlineExceeded from None
        if visit.limits.caller == self.busy_for:
            raise PoolBusy
        return write(asked, answer(), compute_s=0, fresh_s=self._fresh_s)


def answer() -> UserEventsAnswer:
    now = datetime.now(UTC)
    return UserEventsAnswer(
        [], PageMeta(now - timedelta(1), now, "UTC", now, now, "events", None, None)
    )


def run(url: str, test: Callable[[Process, Process], Awaitable[None]], *, fresh_s: int = 0) -> None:
    """The test with two processes that are asked for the same page."""

    async def whole() -> None:
        name = f"test:{uuid4()}"
        asked = Asked("user_events", name, None, None, "", "json", False, lambda _: answer())
        first, second = (Process(url, asked, fresh_s=fresh_s) for _ in range(2))
        try:
            await test(first, second)
        finally:
            await first.cache._reading.call("DEL", asked.key, f"{asked.key}:flight")
            await first.cache.close()
            await second.cache.close()

    asyncio.run(whole())


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while not await happened():
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


def test_a_lease_granted_while_the_page_is_computed_is_returned_with_it(redis_url: str) -> None:
    """The first request had no lease: Redis was away."""

    async def test(process: Process, other: Process) -> None:
        first = process.ask(None)
        second = process.ask(await process.look_up())
        await until(lambda: _is(process.waiting(), 2))
        assert not (await other.look_up()).leads
        process.may_end.set()
        assert await first == await second
        assert await process.lease() is None
        assert process.computed == 1

    run(redis_url, test)


def test_who_leaves_early_leaves_the_lease_to_the_flight(redis_url: str) -> None:
    async def test(process: Process, other: Process) -> None:
        first = process.ask(None)
        second = process.ask(await process.look_up())
        await until(lambda: _is(process.waiting(), 2))
        second.cancel()
        await asyncio.wait({second})
        assert await process.lease() is not None
        process.may_end.set()
        await first
        assert await process.lease() is None

    run(redis_url, test)


def test_the_lease_is_returned_when_all_have_left(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        asked = process.ask(await process.look_up())
        await until(lambda: _is(process.computed, 1))
        asked.cancel()
        await asyncio.wait({asked})
        await until(lambda: _is(process.lease(), None))

    run(redis_url, test)


def test_a_page_that_is_kept_is_computed_by_one_process(redis_url: str) -> None:
    async def test(first: Process, second: Process) -> None:
        asked = [process.ask(await process.look_up()) for process in (first, second)]
        await until(lambda: _is(first.computed, 1))
        first.may_end.set()
        pages = [await each for each in asked]
        assert pages[0] == pages[1]
        assert (first.computed, second.computed) == (1, 0)

    run(redis_url, test, fresh_s=60)


def test_a_page_that_was_not_kept_is_waited_for_once(redis_url: str) -> None:
    """The lease goes from one request of the other process to the next: none leaves a page."""

    async def test(process: Process, _: Process) -> None:
        await process.grant("one of the other process")
        process.may_end.set()
        asked = process.ask(await process.look_up())
        await asyncio.sleep(0.1)
        assert process.computed == 0
        await process.grant("the next of it")
        await asked
        assert process.computed == 1
        assert await process.lease() == b"the next of it"

    run(redis_url, test)


def test_a_flight_ends_at_its_own_deadline(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        first = process.ask(await process.look_up(), within_s=0.5)
        later = [process.ask(await process.look_up()) for _ in range(3)]
        with pytest.raises(DeadlineExceeded):
            await first
        await until(lambda: _is(process.computed, 2))
        process.may_end.set()
        pages = [await each for each in later]
        assert pages == [pages[0]] * 3
        assert process.computed == 2
        assert await process.lease() is None

    run(redis_url, test)


def test_a_flight_that_waits_for_another_process_ends_at_its_own_deadline(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        await process.grant("another process")
        first = process.ask(await process.look_up(), within_s=0.5)
        later = process.ask(await process.look_up())
        flight = process.flight()
        with pytest.raises(DeadlineExceeded):
            await first
        await until(lambda: _is(process.flight() is not flight, True))
        await process.revoke()
        process.may_end.set()
        await later
        assert process.computed == 1

    run(redis_url, test)


def test_a_caller_without_connections_is_refused_alone(redis_url: str) -> None:
    """Connections are shared by caller: one that holds its part of them does not stop others."""

    async def test(process: Process, _: Process) -> None:
        process.busy_for = "many"
        found = await process.look_up()
        refused = [process.ask(each, caller="many") for each in (found, None)]
        other = process.ask(await process.look_up(), caller="one")
        await until(lambda: _is(process.waiting(), 3))
        process.may_end.set()
        for each in refused:
            with pytest.raises(PoolBusy):
                await each
        await other
        assert process.computed == 2

    run(redis_url, test)


def test_a_failed_sign_of_life_is_not_the_last(redis_url: str) -> None:
    with proxy_to(urlsplit(redis_url).port or 6379) as proxy:
        url = redis_url.replace(f":{urlsplit(redis_url).port}", f":{proxy.port}")

        async def test(process: Process, _: Process) -> None:
            asked = process.ask(await process.look_up())
            key = f"{process.asked.key}:flight"
            await until(lambda: _is(process.computed, 1))
            proxy.refuse()
            await asyncio.sleep(0.5)  # one sign of life fails
            proxy.mode = "pass"
            other = CacheService(redis_url, 2, request_s=LONG_S, stale_s=60, identity=Identity())
            await other._reading.call("PEXPIRE", key, LEASE_MS // 2)

            async def renewed() -> bool:
                return int(await other._reading.call("PTTL", key)) > LEASE_MS // 2

            await until(renewed)
            await other.close()
            process.may_end.set()
            await asked

        run(url, test)


async def _is(value: object, expected: object) -> bool:
    return (await value if isinstance(value, Awaitable) else value) == expected


def test_a_page_that_is_older_than_the_clock_is_not_kept(redis_url: str) -> None:
    """It was looked up while the clock was ahead: nobody can tell which erasures it has seen."""

    async def test(process: Process, _: Process) -> None:
        process.may_end.set()
        found = await process.look_up()
        await process.ask(replace(found, now_ms=found.now_ms + 86_400_000))
        assert await process.cache.page(process.asked.key) is None
        await process.ask(await process.look_up())
        assert await process.cache.page(process.asked.key) is not None

    run(redis_url, test, fresh_s=60)


def test_an_erasure_while_the_clock_was_ahead_is_over_later(redis_url: str) -> None:
    async def test(process: Process, _: Process) -> None:
        process.may_end.set()
        found = await process.look_up()
        await process.cache.forget_users()
        mark = process.cache._forgotten
        tomorrow = int(await process.cache._reading.call("GET", mark)) + 86_400_000
        await process.cache._reading.call("SET", mark, str(tomorrow), "PX", 86_400_000)
        await process.ask(found)
        assert await process.cache.page(process.asked.key) is None
        await asyncio.sleep(0.01)
        await process.ask(await process.look_up())
        assert await process.cache.page(process.asked.key) is not None
        await process.cache._reading.call("DEL", mark)

    run(redis_url, test, fresh_s=60)
