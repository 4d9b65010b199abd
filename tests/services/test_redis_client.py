"""The Redis client: replies and scripts, and what is undone if nobody waits for a reply."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
import uvloop
from redis.exceptions import ResponseError

from services.cache_service import CacheFailed, CacheService, Limits
from services.database_identity import Identity
from services.redis_client import MultiplexedRedis, Script, _Connection
from tests.faults.proxy import Proxy, proxy_to
from tests.wait_until import adjusted_for_load

KEY = "analytics:test:late"
TIMEOUT_S = 0.4
BUSY = "local ends = os.clock() + 1; while os.clock() < ends do end"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    opened = redis.Redis.from_url(redis_url)
    yield opened
    opened.close()


@pytest.fixture
def limits(client: redis.Redis) -> Limits:
    client.delete(f"{KEY}:flight")
    return Limits(uuid4().hex, per_second=1000, concurrency=2)


def slots(client: redis.Redis, limits: Limits) -> int:
    return int(client.zcard(f"analytics:limit:{limits.caller}:slots"))


def was_counted(client: redis.Redis, limits: Limits) -> bool:
    return bool(client.exists(f"analytics:limit:{limits.caller}:rate"))


def slots_and_lease(client: redis.Redis, limits: Limits) -> tuple[int, object]:
    """The places that the caller has, and who holds the lease."""
    return slots(client, limits), client.get(f"{KEY}:flight")


async def until(has_happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not has_happened():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        await asyncio.sleep(0.01)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with proxy_to(urlsplit(redis_url).port or 6379) as opened:
        yield opened


@asynccontextmanager
async def connected(proxy: Proxy, redis_url: str) -> AsyncIterator[CacheService]:
    url = redis_url.replace(f":{urlsplit(redis_url).port}", f":{proxy.port}")
    cache = CacheService(url, TIMEOUT_S, request_s=20, stale_s=60, identity=Identity())
    for _ in range(100):
        with suppress(CacheFailed):
            await cache.ping()
            break
    try:
        yield cache
    finally:
        await cache.close()


@contextmanager
def slow(proxy: Proxy) -> Iterator[None]:
    """What is asked meanwhile gets to Redis, and its answer comes too late."""
    proxy.delay_s = TIMEOUT_S * 2
    yield
    proxy.delay_s = 0


def test_a_timed_out_lookup_holds_no_lease_or_slot(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            with slow(proxy):
                for _ in range(2):
                    with pytest.raises(CacheFailed):
                        await cache.look_up(KEY, limits)
                await until(lambda: was_counted(client, limits))
            await until(lambda: slots_and_lease(client, limits) == (0, None))
            lookup = await cache.look_up(KEY, limits)
            assert (lookup.verdict, lookup.holds_lease) == ("miss", True)
            assert slots(client, limits) == 1

    asyncio.run(run())


def test_a_look_up_whose_request_was_cancelled_holds_nothing(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    """Its connection goes on: nobody has waited for long."""

    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            proxy.delay_s = TIMEOUT_S / 8
            task = asyncio.create_task(cache.look_up(KEY, limits))
            await asyncio.sleep(TIMEOUT_S / 16)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            await until(lambda: was_counted(client, limits))
            await until(lambda: slots_and_lease(client, limits) == (0, None))

    asyncio.run(run())


def test_a_request_that_is_cancelled_at_any_moment_holds_nothing(
    redis_url: str, client: redis.Redis, limits: Limits
) -> None:
    """Also when the answer is there, and the request has not seen it."""

    async def run() -> None:
        cache = CacheService(redis_url, 2, request_s=20, stale_s=60, identity=Identity())
        await cache.ping()
        seen: set[bool] = set()
        for pause in range(60):
            task = asyncio.create_task(cache.look_up(KEY, limits))
            for _ in range(pause):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            seen.add(task.cancelled())
            if not task.cancelled():
                await cache.release(KEY, limits, task.result(), None)
            await cache.ping()
            await until(lambda: slots_and_lease(client, limits) == (0, None))
        assert True in seen
        await cache.close()

    asyncio.run(run())


def test_a_failed_release_is_retried(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    """While Redis fails most commands are not even tried."""

    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            lookup = await cache.look_up(KEY, limits)
            proxy.refuse()
            for _ in range(4):
                with pytest.raises(CacheFailed):
                    await cache.ping()
            with pytest.raises(CacheFailed):
                await cache.release(KEY, limits, lookup, None)
            assert slots_and_lease(client, limits) == (1, lookup.token.encode())
            proxy.mode = "pass"
            while slots_and_lease(client, limits) != (0, None):
                with suppress(CacheFailed):
                    await cache.ping()
                    assert slots_and_lease(client, limits) == (0, None)
                await asyncio.sleep(0.05)

    asyncio.run(run())


async def pinged(cache: CacheService) -> None:
    """Redis is there again, and was told what there was to tell."""
    for _ in range(200):
        with suppress(CacheFailed):
            return await cache.ping()
        await asyncio.sleep(0.05)
    raise AssertionError("Redis did not come back")


@pytest.mark.parametrize("times_out", [False, True])
def test_a_look_up_whose_connection_is_cut_holds_nothing(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits, times_out: bool
) -> None:
    """After the command was sent: before its time was up, or after."""

    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            proxy.mode = "mute"
            task = asyncio.create_task(cache.look_up(KEY, limits))
            await until(lambda: slots(client, limits) == 1)
            if times_out:
                await asyncio.wait({task})
            proxy.cut()
            with pytest.raises(CacheFailed):
                await task
            assert slots(client, limits) == 1
            proxy.mode = "pass"
            await pinged(cache)
            assert slots_and_lease(client, limits) == (0, None)

    asyncio.run(run())


def test_a_look_up_that_was_done_after_its_connection_was_cut_holds_nothing(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            busy = asyncio.create_task(asyncio.to_thread(client.eval, BUSY, 0))
            await asyncio.sleep(0.1)
            task = asyncio.create_task(cache.look_up(KEY, limits))
            await asyncio.sleep(0.1)
            proxy.cut()
            with pytest.raises(CacheFailed):
                await task
            await busy
            await until(lambda: was_counted(client, limits))
            await pinged(cache)
            assert slots_and_lease(client, limits) == (0, None)

    asyncio.run(run())


def test_a_cache_that_is_closed_holds_nothing(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            proxy.mode = "mute"
            with pytest.raises(CacheFailed):
                await cache.look_up(KEY, limits)
            assert slots(client, limits) == 1
            proxy.mode = "pass"
        assert slots_and_lease(client, limits) == (0, None)

    asyncio.run(run())


def test_the_release_of_a_cancelled_request_is_sent_after_reconnecting(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    """While it waits for a connection, nothing is sent yet."""

    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            lookup = await cache.look_up(KEY, limits)
            proxy.cut()
            task = asyncio.create_task(cache.release(KEY, limits, lookup, None))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            await pinged(cache)
            assert slots_and_lease(client, limits) == (0, None)

    asyncio.run(run())


def test_late_replies_do_not_reach_other_requests(
    redis_url: str, client: redis.Redis, proxy: Proxy, limits: Limits
) -> None:
    async def run() -> None:
        async with connected(proxy, redis_url) as cache:
            with slow(proxy), pytest.raises(CacheFailed):
                await cache.look_up(KEY, limits)
            lookups = [await cache.look_up(f"{KEY}{n}", Limits()) for n in range(20)]
            assert all(each.holder == each.token.encode() for each in lookups)
            for n, each in enumerate(lookups):
                await cache.release(f"{KEY}{n}", Limits(), each, None)

    asyncio.run(run())


def test_concurrent_commands_get_their_own_replies(redis_url: str) -> None:
    async def replies() -> list[bytes | BaseException]:
        multiplexed = MultiplexedRedis(redis_url, 5.0)
        calls = [multiplexed.call("ECHO", text) for text in ("a", "b")]
        failing = multiplexed.call("NO-SUCH-COMMAND")
        results = await asyncio.gather(calls[0], failing, calls[1], return_exceptions=True)
        await multiplexed.close()
        return list(results)

    first, error, second = asyncio.run(replies())
    assert (first, second) == (b"a", b"b")
    assert isinstance(error, ResponseError)


def test_a_script_that_redis_has_lost_is_sent_again(redis_url: str, client: redis.Redis) -> None:
    script = Script("return ARGV[1]", 0)
    assert script.command("a") == ("EVAL", "return ARGV[1]", 0, "a")

    async def run() -> list[bytes]:
        multiplexed = MultiplexedRedis(redis_url, 5.0)
        results = [await multiplexed.run(script, "a")]
        client.script_flush()
        results.append(await multiplexed.run(script, "b"))
        await multiplexed.close()
        return list(results)

    assert asyncio.run(run()) == [b"a", b"b"]
    assert script.command("c") == ("EVALSHA", script.digest, 0, "c")


def test_a_call_that_is_cancelled_while_it_connects_does_not_block_closing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout may end just when the connection is open, which uvloop then forgets."""

    async def cancel_while_connecting() -> None:
        client = MultiplexedRedis(redis_url, 10)
        call = asyncio.create_task(client.call("PING"))
        with monkeypatch.context() as patch:
            patch.setattr(_Connection, "connection_made", made_and_cancelled(call))
            with pytest.raises(asyncio.CancelledError):
                await call
        async with asyncio.timeout(adjusted_for_load(5)):
            await client.close()
        assert await client.call("PING") == b"PONG"
        await client.close()

    uvloop.run(cancel_while_connecting())


def made_and_cancelled(call: "asyncio.Task[object]") -> Callable[..., None]:
    made = _Connection.connection_made

    def connection_made(connection: _Connection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        call.cancel()

    return connection_made
