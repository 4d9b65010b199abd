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

from common.metrics import CACHE_ERRORS
from common.reach import reaching
from common.registry import questions_about_one_user
from services.cache_keys import bucket_key, flight_key, slots_key
from services.identity import Identity
from services.pages import Page
from services.redis_line import Command, RedisLine, lua_script
from services.releases import Releases
from utils.breaker import Breaker
from utils.tracing import span

T = TypeVar("T")

Verdict = Literal["hit", "miss", "rate", "slots"]

_FLIGHT_MS = 3_000  # without a sign of life whoever computes a page is taken for dead
_MOMENTS = 39  # bytes that settle.lua puts before a page
_LARGEST = 8 * 2**20
_AT_ONCE = 1_000  # keys that are looked at
_FORGOTTEN = "analytics:forgotten"
_SHARED = tuple(b"%d" % version for version in range(5))
"""Versions of pages whose keys may be shared by several databases."""
_CLEARED_FOR_S = 30 * 86_400  # after which it is cleared once more, for nothing
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may do; 0 is no limit."""

    caller: str = ""
    per_second: int = 0
    at_once: int = 0

    def __bool__(self) -> bool:
        return bool(self.per_second or self.at_once)


_NO_LIMITS = Limits()


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
    holder: bytes
    """The token of the request that holds the lease; empty where nobody does."""
    age_ms: int
    fresh_ms: int
    now_ms: int
    """When that was, by the clock of Redis."""
    page: Page | None
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
        self._reading = RedisLine(url, timeout_s)
        self._writing = RedisLine(url, timeout_s)
        self._request_ms = int(request_s * 1000)
        self._forgotten_ms = 2 * self._request_ms
        self._stale_ms = stale_s * 1000
        self._identity = identity
        self._breaker = Breaker(failures=3, first_s=0.5, longest_s=2)
        self._look_up = lua_script("look_up", keys=4)
        self._settle = lua_script("settle", keys=4)
        self._forget = lua_script("forget", keys=2)
        self._renew = lua_script("renew", keys=1)
        self._releases = Releases(self._writing, self._settle)
        self._tokens = count()
        self._process = token_hex(8)

    async def look_up(
        self, key: str, limits: Limits, *, overlook: bool = False, leases: bool = True
    ) -> Found:
        """The page of this key, and the lease to compute it.

        `overlook` does not read the page; without `leases` nobody is to wait for it. Raises:
        CacheFailed.
        """
        token = f"{self._process}{next(self._tokens):x}"
        keys = (key, flight_key(key), bucket_key(limits.caller), slots_key(limits.caller))
        limit = (limits.per_second, limits.at_once, self._request_ms)
        arguments = (*keys, token, _FLIGHT_MS if leases else 0, *limit, int(overlook))

        async def found() -> Found:
            said = await self._reading.run(self._look_up, *arguments, undo=undo)
            return _found(key, token, *said)

        def undo(said: Any) -> Command | None:
            """What Redis granted after nobody waited any more, or perhaps granted."""
            if said is None:
                self._releases.add(key, limits.caller, token, token)
            elif said[0] == b"miss":
                return self._releases.command(key, limits.caller, token)
            return None

        return await self._within("look_up", found)

    async def count(self, limits: Limits) -> Found:
        """Count a request that asks for no page against its caller's rate. Raises: CacheFailed."""
        bucket = bucket_key(limits.caller)
        arguments = (*[bucket] * 4, "", 0, limits.per_second, 0, 0, "rate")
        run = partial(self._reading.run, self._look_up, *arguments)
        return _found("", "", *await self._within("count", run))

    async def settle(
        self, key: str, limits: Limits, found: Found, page: Page | None, *, lease: str | None = None
    ) -> None:
        """Store the page if there is one, and return the place of this `look_up` and its lease.

        `lease` is the token of another one, or "" for none. Raises: CacheFailed.
        """
        stored = msgspec.msgpack.encode(page) if page else b""
        fresh_ms = page.fresh_s * 1000 if page and len(stored) <= _LARGEST else 0
        keys = (
            page.key if page else key,
            flight_key(key),
            slots_key(limits.caller),
            self._forgotten,
        )
        kept_ms = fresh_ms + self._stale_ms
        held = (found.token, found.token if lease is None else lease)
        moments = (fresh_ms, kept_ms, found.now_ms, self._forgotten_ms)
        told = (*held, stored if fresh_ms else b"", *moments)
        try:
            await self._within("settle", lambda: self._writing.run(self._settle, *keys, *told))
        except (CacheFailed, asyncio.CancelledError):
            self._releases.add(key, limits.caller, *held)
            raise

    async def give_back(self, key: str, lease: str) -> None:
        """Return a lease; nothing is stored. Raises: CacheFailed."""
        self._releases.add(key, "", lease, lease)
        await self.ping()

    async def renew(self, key: str, token: str) -> None:
        """A sign of life of whoever computes the page. Raises: CacheFailed."""
        told = (flight_key(key), token, _FLIGHT_MS)
        await self._within("renew", lambda: self._writing.run(self._renew, *told))

    async def page(self, key: str) -> Page | None:
        """The page of this key, fresh or not. Raises: CacheFailed."""
        stored = await self._within("look_up", lambda: self._reading.call("GET", key))
        return _decoded(key, stored) if stored else None

    async def forget_users(self) -> None:
        """Drop all answers about users of this database, and those that are computed now.

        Those of older versions are dropped whatever database they are of. Raises: CacheFailed.
        """
        told = (self._forgotten, _FORGOTTEN, self._forgotten_ms)
        await self._within("forget", lambda: self._writing.run(self._forget, *told))
        for name in questions_about_one_user():
            await self._within("forget", partial(self._drop, f"analytics:*:{name}:*"))

    async def is_cleared(self, erasure: str) -> bool:
        """Whether answers about users were dropped since this erasure. Raises: CacheFailed."""
        key = self._cleared(erasure)
        return bool(await self._within("look_up", lambda: self._writing.call("EXISTS", key)))

    async def mark_cleared(self, erasure: str) -> None:
        """Raises: CacheFailed."""
        told = ("SET", self._cleared(erasure), "1", "EX", _CLEARED_FOR_S)
        await self._within("forget", lambda: self._writing.call(*told))

    async def _drop(self, pattern: str) -> None:
        at = b"0"
        while True:
            at, found = await self._writing.call("SCAN", at, "MATCH", pattern, "COUNT", _AT_ONCE)
            if keys := list(filter(self._may_be_ours, found)):
                await self._writing.call("UNLINK", *keys)
            if at == b"0":
                return

    def _may_be_ours(self, key: bytes) -> bool:
        _, version, identity, *_ = key.split(b":")
        return version.startswith(_SHARED) or identity == self._identity.value.encode()

    @property
    def _forgotten(self) -> str:
        return f"{_FORGOTTEN}:{self._identity.value}"

    def _cleared(self, erasure: str) -> str:
        return f"analytics:cleared:{self._identity.value}:{erasure}"

    async def ping(self) -> None:
        """Connect where that is to be done, so that no request has to. Raises: CacheFailed."""
        await self._within("ping", self._pinged)

    async def _pinged(self) -> None:
        await self._reading.load(self._look_up)
        for script in (self._settle, self._renew, self._forget):
            await self._writing.load(script)
        # Redis answers a new connection after it has done what came over a lost one.
        await self._reading.call("PING")
        await self._writing.call("PING")
        await self._releases.run()

    async def keep_looking(self) -> NoReturn:
        """Tell whether Redis is there, also while nobody asks anything."""
        while True:
            with suppress(CacheFailed), reaching("redis", "pages"):
                await self.ping()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def close(self) -> None:
        """Also release what is held, if Redis is there."""
        await self._reading.close()
        with suppress(CacheFailed):
            await self.ping()
        await self._reading.close()
        await self._writing.close()

    async def _within(self, operation: str, command: Callable[[], Awaitable[T]]) -> T:
        if not self._breaker.allows():
            CACHE_ERRORS.labels("skipped").inc()
            raise CacheFailed(operation)
        try:
            with span(f"cache {operation}"):
                answer = await command()
        except Exception as exc:  # whatever it is: what Redis says must not stop an answer
            self._breaker.failed()
            CACHE_ERRORS.labels(operation).inc()
            raise CacheFailed(operation) from exc
        self._breaker.succeeded()
        return answer


def _found(
    key: str,
    token: str,
    verdict: bytes,
    left: int,
    wait_ms: int,
    holder: bytes,
    age_ms: int,
    fresh_ms: int,
    now_ms: int,
    stored: bytes | None,
) -> Found:
    page = _decoded(key, stored) if stored else None
    broken = verdict == b"hit" and page is None  # nobody else will replace it
    said = cast(Verdict, "miss" if broken else verdict.decode())
    leads = broken or holder == token.encode()
    return Found(said, token, left, wait_ms, leads, holder, age_ms, fresh_ms, now_ms, page)


def _decoded(key: str, stored: bytes) -> Page | None:
    """None for what is no page of this key: it is never served, and replaced."""
    with suppress(msgspec.DecodeError, RecursionError):
        page = msgspec.msgpack.decode(stored[_MOMENTS:], type=Page)
        if page.key == key:
            return page
    CACHE_ERRORS.labels("decode").inc()
    return None
