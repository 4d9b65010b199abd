"""What Redis keeps: pages, who computes them, and what callers have used of their limits.

It helps and is never needed: whatever fails here, answers are computed.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Literal, TypeVar
from uuid import uuid4

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.metrics import CACHE_ERRORS
from services.pages import Page
from utils.breaker import Breaker
from utils.tracing import span

T = TypeVar("T")

Verdict = Literal["hit", "miss", "rate", "slots"]

_CONNECTIONS = 32
_FLIGHT_MS = 1_000  # without a sign of life whoever computes a page is taken for dead
_MOMENTS = 26  # bytes that settle.lua puts before a page
_LARGEST = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may do; 0 is no limit."""

    caller: str = ""
    per_second: int = 0
    at_once: int = 0

    def __bool__(self) -> bool:
        return bool(self.per_second or self.at_once)

    def of(self, key_id: int) -> "Limits":
        """The same for one of the keys of this database."""
        return replace(self, caller=f"{self.caller}:{key_id}")


@dataclass(frozen=True, slots=True)
class Found:
    """What Redis said to a question."""

    verdict: Verdict
    token: str
    left: int
    """Requests that the caller has left in this second; -1 without a limit."""
    wait_ms: int
    leads: bool
    """Whether this request is the one to compute the page."""
    age_ms: int
    fresh_ms: int
    page: Page | None
    """The page, also one that is no longer fresh."""


class CacheFailed(Exception):
    """Redis gave no answer in time."""


class CacheService:
    """Each call is one round trip, within `timeout_s`; while Redis is away most are none."""

    def __init__(self, client: Redis, timeout_s: float, *, request_s: float, stale_s: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._request_ms = int(request_s * 1000)
        self._stale_ms = stale_s * 1000
        self._breaker = Breaker(failures=3, first_s=0.5, longest_s=2)
        self._look_up = client.register_script(_script("look_up"))
        self._settle = client.register_script(_script("settle"))

    async def look_up(self, key: str, limits: Limits, *, overlook: bool = False) -> Found:
        """The page of this key, and leave to compute it; `overlook` does not read the page.

        Raises: CacheFailed.
        """
        token = uuid4().hex
        limit = (limits.per_second, limits.at_once, self._request_ms)
        call = self._look_up(
            keys=[key, _flight(key), _bucket(limits), _slots(limits)],
            args=[token, _FLIGHT_MS, *limit, int(overlook)],
        )
        verdict, left, wait_ms, leads, age_ms, fresh_ms, stored = await self._within(
            "look_up", call
        )
        page = _decoded(key, stored) if stored else None
        broken = verdict == b"hit" and page is None  # nobody else will replace it
        return Found(
            "miss" if broken else verdict.decode(),
            token,
            left,
            wait_ms,
            bool(leads) or broken,
            age_ms,
            fresh_ms,
            page,
        )

    async def settle(self, key: str, limits: Limits, token: str, page: Page | None = None) -> None:
        """Store the page if there is one, and give back what `look_up` gave to this token.

        Raises: CacheFailed.
        """
        stored = msgspec.msgpack.encode(page) if page else b""
        fresh_ms = page.fresh_s * 1000 if page and len(stored) <= _LARGEST else 0
        call = self._settle(
            keys=[key, _flight(key), _slots(limits)],
            args=[token, stored if fresh_ms else b"", fresh_ms, fresh_ms + self._stale_ms],
        )
        await self._within("settle", call)

    async def renew(self, key: str) -> None:
        """A sign of life of whoever computes the page. Raises: CacheFailed."""
        await self._within("renew", self._client.pexpire(_flight(key), _FLIGHT_MS))

    async def ping(self) -> None:
        """Raises: CacheFailed."""
        await self._within("ping", self._client.ping())

    async def _within(self, operation: str, command: Awaitable[T]) -> T:
        if not self._breaker.allows():
            _close(command)
            CACHE_ERRORS.labels("skipped").inc()
            raise CacheFailed(operation)
        try:
            with span(f"cache {operation}"):
                async with asyncio.timeout(self._timeout_s):
                    answer = await command
        except (RedisError, OSError) as exc:  # TimeoutError is an OSError
            self._breaker.failed()
            CACHE_ERRORS.labels(operation).inc()
            raise CacheFailed(operation) from exc
        self._breaker.succeeded()
        return answer


def _close(command: Awaitable[Any]) -> None:
    """What is never awaited says so."""
    if asyncio.iscoroutine(command):
        command.close()


def _decoded(key: str, stored: bytes) -> Page | None:
    """None for what is no page of this key: it is never served, and replaced."""
    with suppress(msgspec.DecodeError):
        page = msgspec.msgpack.decode(stored[_MOMENTS:], type=Page)
        if page.key == key:
            return page
    CACHE_ERRORS.labels("decode").inc()
    return None


def _script(name: str) -> str:
    return files("services").joinpath("lua", f"{name}.lua").read_text()


def _flight(key: str) -> str:
    return f"{key}:flight"


def _bucket(limits: Limits) -> str:
    return f"analytics:limit:{limits.caller}:rate"


def _slots(limits: Limits) -> str:
    return f"analytics:limit:{limits.caller}:slots"


def redis_client(url: str, timeout_s: float) -> Redis:
    """A client without the library's retries, which wait for seconds."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)
