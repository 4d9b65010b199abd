"""What Redis keeps: pages, who computes them, and what callers have used of their limits.

It helps and is never needed: whatever fails here, answers are computed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, Literal, NoReturn, TypeVar, cast

import msgspec

from common.metrics import CACHE_ERRORS, track_reachability
from common.question_registry import questions_about_one_user
from services.answering.pending_releases import PendingReleases
from services.cache_keys import bucket_key, flight_key, slots_key
from services.cached_response import CachedResponse
from services.database_identity import Identity
from services.redis_client import Command, MultiplexedRedis, lua_script
from utils.circuit_breaker import CircuitBreaker
from utils.tracing import trace_span

T = TypeVar("T")

Verdict = Literal["hit", "miss", "rate", "slots"]

_FLIGHT_MS = 3_000  # without a sign of life whoever computes a page is taken for dead
_HEADER_BYTES = 39  # bytes that settle.lua puts before a page
_MAX_RESPONSE_BYTES = 8 * 2**20
_SCAN_COUNT = 1_000  # keys that are looked at
_PURGE_PREFIX = "analytics:forgotten"
_SHARED_VERSIONS = tuple(b"%d" % version for version in range(5))
"""Versions of pages whose keys may be shared by several databases."""
_CLEARED_TTL_S = 30 * 86_400  # after which it is cleared once more, for nothing
_PING_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may do; 0 is no limit."""

    caller: str = ""
    per_second: int = 0
    concurrency: int = 0

    def __bool__(self) -> bool:
        return bool(self.per_second or self.concurrency)


_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """What Redis said to a question."""

    verdict: Verdict
    token: str
    remaining: int
    """Requests that the caller has left in this second; -1 without a limit."""
    wait_ms: int
    holds_lease: bool
    """Whether this request is the one to compute the page."""
    holder: bytes
    """The token of the request that holds the lease; empty where nobody does."""
    age_ms: int
    fresh_ms: int
    now_ms: int
    """When that was, by the clock of Redis."""
    response: CachedResponse | None
    """The page, also one that is no longer fresh."""


class CacheFailed(Exception):
    """Redis gave no answer in time."""


class CacheService:
    """Each call is one round trip, within `timeout_s`; while Redis is away most are none."""

    def __init__(
        self, url: str, timeout_s: float, *, request_s: float, stale_s: int, identity: Identity
    ) -> None:
        """`identity` is that of the database whose erasures are told here."""
        # Large pages that are stored must not hold up the look-ups.
        self._reader = MultiplexedRedis(url, timeout_s)
        self._writer = MultiplexedRedis(url, timeout_s)
        self._request_ms = int(request_s * 1000)
        self._purge_mark_ms = 2 * self._request_ms
        self._stale_ms = stale_s * 1000
        self._identity = identity
        self._breaker = CircuitBreaker(max_failures=3, first_pause_s=0.5, max_pause_s=2)
        self._lookup_script = lua_script("lookup_and_lease", keys=4)
        self._release_script = lua_script("store_and_release", keys=4)
        self._purge_script = lua_script("purge_users", keys=2)
        self._renew_script = lua_script("renew_lease", keys=1)
        self._releases = PendingReleases(self._writer, self._release_script)
        self._tokens = count()
        self._process = token_hex(8)

    async def look_up(
        self, key: str, limits: Limits, *, bypass: bool = False, may_lease: bool = True
    ) -> CacheLookup:
        """The page of this key, and the lease to compute it.

        `overlook` does not read the page; without `leases` nobody is to wait for it. Raises:
        CacheFailed.
        """
        token = f"{self._process}{next(self._tokens):x}"
        keys = (key, flight_key(key), bucket_key(limits.caller), slots_key(limits.caller))
        limit = (limits.per_second, limits.concurrency, self._request_ms)
        arguments = (*keys, token, _FLIGHT_MS if may_lease else 0, *limit, int(bypass))

        async def request() -> CacheLookup:
            reply = await self._reader.run(self._lookup_script, *arguments, undo=undo)
            return _parse_lookup(key, token, *reply)

        def undo(reply: Any) -> Command | None:
            """What Redis granted after nobody waited any more, or perhaps granted."""
            if reply is None:
                self._releases.add(key, limits.caller, token, token)
            elif reply[0] == b"miss":
                return self._releases.command(key, limits.caller, token)
            return None

        return await self._guarded("look_up", request)

    async def count(self, limits: Limits) -> CacheLookup:
        """Count a request that asks for no page against its caller's rate. Raises: CacheFailed."""
        bucket = bucket_key(limits.caller)
        arguments = (*[bucket] * 4, "", 0, limits.per_second, 0, 0, "rate")
        run = partial(self._reader.run, self._lookup_script, *arguments)
        return _parse_lookup("", "", *await self._guarded("count", run))

    async def release(
        self,
        key: str,
        limits: Limits,
        lookup: CacheLookup,
        response: CachedResponse | None,
        *,
        lease: str | None = None,
    ) -> None:
        """Store the page if there is one, and return the place of this `look_up` and its lease.

        `lease` is the token of another one, or "" for none. Raises: CacheFailed.
        """
        payload = msgspec.msgpack.encode(response) if response else b""
        fresh_ms = (
            response.fresh_s * 1000 if response and len(payload) <= _MAX_RESPONSE_BYTES else 0
        )
        keys = (
            response.key if response else key,
            flight_key(key),
            slots_key(limits.caller),
            self._purge_key,
        )
        ttl_ms = fresh_ms + self._stale_ms
        tokens = (lookup.token, lookup.token if lease is None else lease)
        times = (fresh_ms, ttl_ms, lookup.now_ms, self._purge_mark_ms)
        arguments = (*tokens, payload if fresh_ms else b"", *times)
        try:
            await self._guarded(
                "settle", lambda: self._writer.run(self._release_script, *keys, *arguments)
            )
        except (CacheFailed, asyncio.CancelledError):
            self._releases.add(key, limits.caller, *tokens)
            raise

    async def return_lease(self, key: str, lease: str) -> None:
        """Return a lease; nothing is stored. Raises: CacheFailed."""
        self._releases.add(key, "", lease, lease)
        await self.ping()

    async def renew_lease(self, key: str, token: str) -> None:
        """A sign of life of whoever computes the page. Raises: CacheFailed."""
        arguments = (flight_key(key), token, _FLIGHT_MS)
        await self._guarded("renew", lambda: self._writer.run(self._renew_script, *arguments))

    async def get(self, key: str) -> CachedResponse | None:
        """The page of this key, fresh or not. Raises: CacheFailed."""
        payload = await self._guarded("look_up", lambda: self._reader.call("GET", key))
        return _decode(key, payload) if payload else None

    async def purge_users(self) -> None:
        """Drop all answers about users of this database, and those that are computed now.

        Those of older versions are dropped whatever database they are of. Raises: CacheFailed.
        """
        arguments = (self._purge_key, _PURGE_PREFIX, self._purge_mark_ms)
        await self._guarded("forget", lambda: self._writer.run(self._purge_script, *arguments))
        for name in questions_about_one_user():
            await self._guarded("forget", partial(self._delete_matching, f"analytics:*:{name}:*"))

    async def is_cleared(self, erasure: str) -> bool:
        """Whether answers about users were dropped since this erasure. Raises: CacheFailed."""
        key = self._cleared_key(erasure)
        return bool(await self._guarded("look_up", lambda: self._writer.call("EXISTS", key)))

    async def mark_cleared(self, erasure: str) -> None:
        """Raises: CacheFailed."""
        arguments = ("SET", self._cleared_key(erasure), "1", "EX", _CLEARED_TTL_S)
        await self._guarded("forget", lambda: self._writer.call(*arguments))

    async def _delete_matching(self, pattern: str) -> None:
        cursor = b"0"
        while True:
            cursor, matches = await self._writer.call(
                "SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT
            )
            if keys := list(filter(self._may_be_own_key, matches)):
                await self._writer.call("UNLINK", *keys)
            if cursor == b"0":
                return

    def _may_be_own_key(self, key: bytes) -> bool:
        _, version, identity, *_ = key.split(b":")
        return version.startswith(_SHARED_VERSIONS) or identity == self._identity.value.encode()

    @property
    def _purge_key(self) -> str:
        return f"{_PURGE_PREFIX}:{self._identity.value}"

    def _cleared_key(self, erasure: str) -> str:
        return f"analytics:cleared:{self._identity.value}:{erasure}"

    async def ping(self) -> None:
        """Connect where that is to be done, so that no request has to. Raises: CacheFailed."""
        await self._guarded("ping", self._ping)

    async def _ping(self) -> None:
        await self._reader.load(self._lookup_script)
        for script in (self._release_script, self._renew_script, self._purge_script):
            await self._writer.load(script)
        # Redis answers a new connection after it has done what came over a lost one.
        await self._reader.call("PING")
        await self._writer.call("PING")
        await self._releases.run()

    async def ping_forever(self) -> NoReturn:
        """Tell whether Redis is there, also while nobody asks anything."""
        while True:
            with suppress(CacheFailed), track_reachability("redis", "pages"):
                await self.ping()
            await asyncio.sleep(_PING_EVERY_S)

    async def close(self) -> None:
        """Also release what is held, if Redis is there."""
        await self._reader.close()
        with suppress(CacheFailed):
            await self.ping()
        await self._reader.close()
        await self._writer.close()

    async def _guarded(self, operation: str, command: Callable[[], Awaitable[T]]) -> T:
        if not self._breaker.allows():
            CACHE_ERRORS.labels("skipped").inc()
            raise CacheFailed(operation)
        try:
            with trace_span(f"cache {operation}"):
                answer = await command()
        except Exception as exc:  # whatever it is: what Redis says must not stop an answer
            self._breaker.record_failure()
            CACHE_ERRORS.labels(operation).inc()
            raise CacheFailed(operation) from exc
        self._breaker.record_success()
        return answer


def _parse_lookup(
    key: str,
    token: str,
    verdict: bytes,
    remaining: int,
    wait_ms: int,
    holder: bytes,
    age_ms: int,
    fresh_ms: int,
    now_ms: int,
    payload: bytes | None,
) -> CacheLookup:
    response = _decode(key, payload) if payload else None
    is_broken = verdict == b"hit" and response is None  # nobody else will replace it
    effective_verdict = cast(Verdict, "miss" if is_broken else verdict.decode())
    holds_lease = is_broken or holder == token.encode()
    return CacheLookup(
        effective_verdict,
        token,
        remaining,
        wait_ms,
        holds_lease,
        holder,
        age_ms,
        fresh_ms,
        now_ms,
        response,
    )


def _decode(key: str, payload: bytes) -> CachedResponse | None:
    """None for what is no page of this key: it is never served, and replaced."""
    with suppress(msgspec.DecodeError, RecursionError):
        response = msgspec.msgpack.decode(payload[_HEADER_BYTES:], type=CachedResponse)
        if response.key == key:
            return response
    CACHE_ERRORS.labels("decode").inc()
    return None
