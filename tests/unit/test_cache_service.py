"""Limits of API keys, as Redis has counted them, and releases that failed and are sent again."""

import asyncio
from typing import Any, cast

import pytest

from common.errors import TooManyConcurrent, TooManyRequests
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits, PendingReleases
from services.database_identity import Identity
from services.redis_client import MultiplexedRedis, Script


class Client:
    """Runs scripts, except while it is down."""

    def __init__(self) -> None:
        self.is_down = False
        self.keys: list[str] = []

    async def run(self, _: Script, key: str, *__: Any) -> None:
        if self.is_down:
            raise OSError("down")
        self.keys.append(key)


def pending(client: Client, *keys: str) -> PendingReleases:
    releases = PendingReleases(cast(MultiplexedRedis, client), Script("return 1", 4))
    for key in keys:
        releases.add(key, "caller", "token", "lease")
    return releases


def test_each_release_is_sent_once() -> None:
    client = Client()
    releases = pending(client, "a", "b")
    for _ in range(2):
        asyncio.run(releases.run())
    assert client.keys == ["a", "b"]


def test_a_release_that_fails_stays_first() -> None:
    client = Client()
    releases = pending(client, "a", "b")
    client.is_down = True
    with pytest.raises(OSError, match="down"):
        asyncio.run(releases.run())
    client.is_down = False
    asyncio.run(releases.run())
    assert client.keys == ["a", "b"]


def test_only_the_last_thousand_are_kept() -> None:
    client = Client()
    asyncio.run(pending(client, *map(str, range(1_001))).run())
    assert (len(client.keys), client.keys[0]) == (1_000, "1")


def test_the_release_of_one_request_names_its_token_twice() -> None:
    name, text, keys, key, *rest = pending(Client()).command("a", "caller", "token")
    assert (name, text, keys, key) == ("EVAL", "return 1", 4, "a")
    assert rest.count("token") == 2


LIMITS = Limits("key", per_second=10, concurrency=2)


def cache(monkeypatch: pytest.MonkeyPatch, verdict: str | None) -> CacheService:
    """A cache whose lookups have this verdict; without one they fail."""

    async def run(*_: Any, **__: Any) -> list[Any]:
        if verdict is None:
            raise OSError("down")
        return [verdict.encode(), 3, 200, b"", 0, 0, 0, None]

    monkeypatch.setattr(MultiplexedRedis, "run", run)
    return CacheService("redis://127.0.0.1", 1, request_s=1, stale_s=1, identity=Identity("db"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    def count(verdict: str | None, limits: Limits = LIMITS) -> CacheLookup | None:
        async def run() -> CacheLookup | None:
            return await cache(monkeypatch, verdict).count(limits)

        return asyncio.run(run())

    return count


def test_a_request_within_the_limit_learns_what_is_left(counted: Any) -> None:
    lookup = counted("miss")
    assert (lookup.remaining, lookup.wait_ms) == (3, 200)


def test_a_request_above_the_limit_is_refused(counted: Any) -> None:
    with pytest.raises(TooManyRequests):
        counted("rate")


def test_requests_pass_while_redis_is_unavailable(counted: Any) -> None:
    assert counted(None) is None


def test_keys_without_a_rate_are_not_counted(counted: Any) -> None:
    assert counted("rate", Limits("key", concurrency=2)) is None


@pytest.mark.parametrize(
    ("verdict", "error"),
    [("rate", TooManyRequests), ("slots", TooManyConcurrent), (None, CacheFailed)],
)
def test_a_question_above_a_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, verdict: str | None, error: type[Exception]
) -> None:
    async def look_up() -> CacheLookup:
        return await cache(monkeypatch, verdict).look_up("key", LIMITS)

    with pytest.raises(error):
        asyncio.run(look_up())


def test_refusals_do_not_open_the_circuit_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up_often() -> None:
        refusing = cache(monkeypatch, "rate")
        for _ in range(9):
            with pytest.raises(TooManyRequests):
                await refusing.look_up("key", LIMITS)

    asyncio.run(look_up_often())
