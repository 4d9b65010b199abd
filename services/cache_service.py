"""Answers kept in Redis. It helps and is never needed: whatever fails, answers are computed."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.metrics import CACHE_ERRORS

T = TypeVar("T")

_CONNECTIONS = 32


class Page(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is sent."""

    key: str
    media_type: str
    headers: dict[str, str]
    body: bytes


class CacheFailed(Exception):
    """Redis gave no answer in time."""


class CacheService:
    """Reads and writes pages, each command within `timeout_s`."""

    def __init__(self, client: Redis, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def get(self, key: str) -> Page | None:
        """Raises: CacheFailed."""
        stored = await self._within("get", self._client.get(key))
        return _decoded(key, stored) if isinstance(stored, bytes) else None

    async def put(self, page: Page, ttl_s: int) -> None:
        """Raises: CacheFailed."""
        stored = msgspec.msgpack.encode(page)
        await self._within("set", self._client.set(page.key, stored, ex=ttl_s))

    async def ping(self) -> None:
        """Raises: CacheFailed."""
        await self._within("ping", self._client.ping())

    async def _within(self, operation: str, command: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command
        except (RedisError, OSError) as exc:  # TimeoutError is an OSError
            CACHE_ERRORS.labels(operation).inc()
            raise CacheFailed(operation) from exc


def _decoded(key: str, stored: bytes) -> Page | None:
    """None for what is no page of this key: it is never served, and replaced."""
    with suppress(msgspec.DecodeError):
        page = msgspec.msgpack.decode(stored, type=Page)
        if page.key == key:
            return page
    CACHE_ERRORS.labels("decode").inc()
    return None


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
