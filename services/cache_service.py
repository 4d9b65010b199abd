"""The cache in Redis: cached responses, leases to compute them, and the limits of callers.

The service also works without it: if Redis fails, responses are computed, and limits are not
enforced.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, cast

import msgspec

from common.errors import TooManyConcurrent, TooManyRequests
from common.metrics import CACHE_ERRORS, LIMITED, track_reachability
from common.questions import questions_about_one_user
from common.questions.base import FILTERED
from services.cached_response import CachedResponse
from services.database_identity import Identity
from services.redis_client import Command, MultiplexedRedis, Script, lua_script
from utils import tracing
from utils.circuit_breaker import CircuitBreaker

Verdict = Literal["hit", "miss", "rate", "slots"]

_FLIGHT_MS = 3_000  # a lease that is not renewed for this long expires
_HEADER_BYTES = 39  # the three timestamps that store_and_release.lua puts before a response
_MAX_RESPONSE_BYTES = 8 * 2**20
_SCAN_COUNT = 1_000  # keys that one SCAN visits
_PURGE_PREFIX = "analytics:forgotten"
# Until version 4, keys did not contain the identity of the database: several databases that share
# a Redis may have stored such responses.
_SHARED_VERSIONS = tuple(b"%d" % version for version in range(5))
_CLEARED_TTL_S = 30 * 86_400  # after it expires, the cache is purged once more, which is harmless
_PING_EVERY_S = 1.0
_MAX_PENDING = 1_000  # older releases are dropped, since leases and slots also expire in Redis


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a caller: requests per second, and concurrent questions; 0: unlimited."""

    caller: str = ""
    per_second: int = 0
    concurrency: int = 0

    def __bool__(self) -> bool:
        return bool(self.per_second or self.concurrency)


_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """The result of a lookup in Redis."""

    verdict: Verdict
    token: str
    remaining: int
    """Requests that the caller has left in the current second; -1 if unlimited."""
    wait_ms: int
    """Milliseconds until all requests are available again; with verdict `rate`, until the next."""
    holds_lease: bool
    """Whether this request was granted the lease to compute the response."""
    holder: bytes
    """The token of the request that holds the lease; empty if there is none."""
    age_ms: int
    fresh_ms: int
    now_ms: int
    """The time of the lookup, by the clock of Redis."""
    response: CachedResponse | None
    """The stored response, also if it is no longer fresh."""


class CacheFailed(Exception):
    """Redis did not reply in time, or replied with an error."""


class CacheService:
    """Client of the cache. Most calls are one round trip, which takes at most `timeout_s`.

    A circuit breaker makes calls fail without a round trip while Redis is unavailable.
    """

    def __init__(
        self, url: str, timeout_s: float, *, request_s: float, stale_s: int, identity: Identity
    ) -> None:
        """`identity` is that of the database; the times of erasures are stored under it."""
        # Two connections, so that storing a large response does not delay lookups.
        self._reader = MultiplexedRedis(url, timeout_s)
        self._writer = MultiplexedRedis(url, timeout_s)
        self._request_ms = int(request_s * 1000)
        # Longer than any request: no response that was computed before an erasure can be stored
        # after its time has expired.
        self._purge_mark_ms = 2 * self._request_ms
        self._stale_ms = stale_s * 1000
        self._identity = identity
        self._breaker = CircuitBreaker(max_failures=3, first_pause_s=0.5, max_pause_s=2)
        self._lookup_script = lua_script("lookup_and_lease", keys=4)
        self._release_script = lua_script("store_and_release", keys=4)
        self._purge_script = lua_script("record_erasure", keys=2)
        self._renew_script = lua_script("renew_lease", keys=1)
        self._releases = PendingReleases(self._writer, self._release_script)
        self._tokens = count()
        self._process = token_hex(8)

    async def look_up(
        self, key: str, limits: Limits, *, bypass: bool = False, may_lease: bool = True
    ) -> CacheLookup:
        """Check the limits, and look up the response of a key or get the lease to compute it.

        `bypass` skips the stored response; without `may_lease` no lease is granted.

        Raises: TooManyRequests, TooManyConcurrent, CacheFailed.
        """
        token = f"{self._process}{next(self._tokens):x}"
        keys = (key, _flight_key(key), _bucket_key(limits.caller), _slots_key(limits.caller))
        limit = (limits.per_second, limits.concurrency, self._request_ms)
        arguments = (*keys, token, _FLIGHT_MS if may_lease else 0, *limit, int(bypass))

        def undo(reply: Any) -> Command | None:
            """Release what Redis granted, if the request has been cancelled meanwhile."""
            if reply is None:  # the reply was lost, so it is unknown what was granted
                self._releases.add(key, limits.caller, token, token)
            elif reply[0] == b"miss":
                return self._releases.command(key, limits.caller, token)
            return None

        with self._attempt("look_up"):
            reply = await self._reader.run(self._lookup_script, *arguments, undo=undo)
            lookup = _parse_lookup(key, token, *reply)
        if lookup.verdict in ("rate", "slots"):
            raise _limit_error(lookup, limits)
        return lookup

    async def count(self, limits: Limits) -> CacheLookup | None:
        """Count a request that is not a question against the rate limit of its key.

        Returns what the key has left; None without a limit, and while Redis is unavailable.

        Raises: TooManyRequests.
        """
        if not limits.per_second:
            return None
        bucket = _bucket_key(limits.caller)
        # With "rate" the script reads the bucket alone; the other three keys are placeholders.
        arguments = (*[bucket] * 4, "", 0, limits.per_second, 0, 0, "rate")
        try:
            with self._attempt("count"):
                reply = await self._reader.run(self._lookup_script, *arguments)
                lookup = _parse_lookup("", "", *reply)
        except CacheFailed:
            LIMITED.labels("unknown").inc()
            return None
        if lookup.verdict == "rate":
            raise _limit_error(lookup, limits)
        return lookup

    async def release(
        self,
        key: str,
        limits: Limits,
        lookup: CacheLookup,
        response: CachedResponse | None,
        *,
        lease: str | None = None,
    ) -> None:
        """Store the response if there is one, and release the slot and the lease of a lookup.

        `lease` is the token of another lease to release instead, or "" for none.

        Raises: CacheFailed.
        """
        payload = msgspec.msgpack.encode(response) if response else b""
        fresh_ms = (
            response.fresh_s * 1000 if response and len(payload) <= _MAX_RESPONSE_BYTES else 0
        )
        keys = (
            response.key if response else key,
            _flight_key(key),
            _slots_key(limits.caller),
            self._purge_key,
        )
        ttl_ms = fresh_ms + self._stale_ms
        tokens = (lookup.token, lookup.token if lease is None else lease)
        times = (fresh_ms, ttl_ms, lookup.now_ms, self._purge_mark_ms)
        arguments = (*tokens, payload if fresh_ms else b"", *times)
        try:
            with self._attempt("settle"):
                await self._writer.run(self._release_script, *keys, *arguments)
        except (CacheFailed, asyncio.CancelledError):
            self._releases.add(key, limits.caller, *tokens)
            raise

    async def return_lease(self, key: str, lease: str) -> None:
        """Release a lease without storing a response. Raises: CacheFailed."""
        self._releases.add(key, "", lease, lease)
        await self.ping()

    async def renew_lease(self, key: str, token: str) -> None:
        """Extend the lease while the response is being computed. Raises: CacheFailed."""
        with self._attempt("renew"):
            await self._writer.run(self._renew_script, _flight_key(key), token, _FLIGHT_MS)

    async def get(self, key: str) -> CachedResponse | None:
        """The stored response of a key, fresh or not. Raises: CacheFailed."""
        with self._attempt("look_up"):
            payload = await self._reader.call("GET", key)
        return _decode(key, payload) if payload else None

    async def purge_users(self) -> None:
        """Delete all responses of this database with values of users: about single users, or with
        a filter.

        Responses of versions whose keys do not name the database are deleted for all databases.

        Raises: CacheFailed.
        """
        # First record the time, so that responses which are being computed now are not stored after
        # the deletion.
        arguments = (self._purge_key, _PURGE_PREFIX, self._purge_mark_ms)
        with self._attempt("forget"):
            await self._writer.run(self._purge_script, *arguments)
        for name in (*questions_about_one_user(), FILTERED):
            with self._attempt("forget"):
                await self._delete_matching(f"analytics:*:{name}:*")

    async def is_cleared(self, erasure: str) -> bool:
        """Whether the cache was purged after this erasure. Raises: CacheFailed."""
        key = self._cleared_key(erasure)
        with self._attempt("look_up"):
            return bool(await self._writer.call("EXISTS", key))

    async def mark_cleared(self, erasure: str) -> None:
        """Record that the cache was purged after this erasure. Raises: CacheFailed."""
        arguments = ("SET", self._cleared_key(erasure), "1", "EX", _CLEARED_TTL_S)
        with self._attempt("forget"):
            await self._writer.call(*arguments)

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
        """Check that Redis replies, and connect if needed. Raises: CacheFailed."""
        with self._attempt("ping"):
            await self._ping()

    async def _ping(self) -> None:
        await self._reader.load(self._lookup_script)
        for script in (self._release_script, self._renew_script, self._purge_script):
            await self._writer.load(script)
        # Redis has executed all commands of a lost connection before it replies on a new one, so
        # the releases below come after what they undo.
        await self._reader.call("PING")
        await self._writer.call("PING")
        await self._releases.run()

    async def ping_forever(self) -> NoReturn:
        """Check every second whether Redis is reachable, so that the metrics show it without
        traffic, and so that requests find an open connection."""
        while True:
            with suppress(CacheFailed), track_reachability("redis", "responses"):
                await self.ping()
            await asyncio.sleep(_PING_EVERY_S)

    async def close(self) -> None:
        """Close the connections. Leases and slots that are still held are released if possible."""
        # Closing the reader turns pending lookups into pending releases, which `ping` sends.
        await self._reader.close()
        with suppress(CacheFailed):
            await self.ping()
        await self._reader.close()
        await self._writer.close()

    def _attempt(self, operation: str) -> "_Attempt":
        return _Attempt(self._breaker, operation)


class _Attempt:
    """A block that uses Redis: it raises CacheFailed for any error, so that no failure of Redis
    makes a request fail, and at once while the circuit breaker is open."""

    # A class, since generators of `contextmanager` cost three times as much.
    __slots__ = ("_breaker", "_operation", "_span")

    def __init__(self, breaker: CircuitBreaker, operation: str) -> None:
        self._breaker = breaker
        self._operation = operation
        self._span = tracing.span(f"cache {operation}")

    def __enter__(self) -> Self:
        if self._breaker.is_open and not self._breaker.allows():
            CACHE_ERRORS.labels("skipped").inc()
            raise CacheFailed(self._operation)
        self._span.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._span.__exit__(kind, error, traceback)
        if error is None:
            if self._breaker.failures:
                self._breaker.record_success()
        elif isinstance(error, Exception):
            self._breaker.record_failure()
            CACHE_ERRORS.labels(self._operation).inc()
            raise CacheFailed(self._operation) from error


class PendingReleases:
    """Leases and concurrency slots that could not be released, to be released later."""

    def __init__(self, client: MultiplexedRedis, release: Script) -> None:
        self._client = client
        self._release = release
        self._pending: deque[tuple[Any, ...]] = deque(maxlen=_MAX_PENDING)

    def add(self, key: str, caller: str, token: str, lease: str) -> None:
        """Let the next `run` release the concurrency slot `token` of a caller, and a lease."""
        self._pending.append(_release_arguments(key, caller, token, lease))

    def command(self, key: str, caller: str, token: str) -> Command:
        """The Redis command that releases the slot and the lease of one request now."""
        return self._release.command(*_release_arguments(key, caller, token, token))

    async def run(self) -> None:
        """Send all releases; one that fails stays for the next run. Raises: RedisError, OSError."""
        while self._pending:
            first = self._pending.popleft()
            try:
                await self._client.run(self._release, *first)
            except BaseException:
                self._pending.appendleft(first)
                raise


def _release_arguments(key: str, caller: str, token: str, lease: str) -> tuple[Any, ...]:
    """Arguments of `store_and_release.lua` for a release without a response."""
    return (key, _flight_key(key), _slots_key(caller), key, token, lease, b"", 0, 0, 0, 0)


def _flight_key(response_key: str) -> str:
    """The key of the lease to compute a response, from the key of the response."""
    return f"{response_key}:flight"


def _bucket_key(caller: str) -> str:
    """The key of the rate limit of a caller."""
    return f"analytics:limit:{caller}:rate"


def _slots_key(caller: str) -> str:
    """The key of the concurrency slots of a caller."""
    return f"analytics:limit:{caller}:slots"


def _limit_error(lookup: CacheLookup, limits: Limits) -> TooManyRequests | TooManyConcurrent:
    if lookup.verdict == "rate":
        LIMITED.labels("rate").inc()
        return TooManyRequests(limits.per_second, lookup.wait_ms)
    LIMITED.labels("at_once").inc()
    return TooManyConcurrent(limits.concurrency)


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
    # A response that cannot be decoded counts as a miss with the lease: the script saw a hit, and
    # granted the lease to nobody.
    is_broken = verdict == b"hit" and response is None
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
    """The response in a stored value; None if it cannot be decoded, or belongs to another key."""
    with suppress(msgspec.DecodeError, RecursionError):
        response = msgspec.msgpack.decode(payload[_HEADER_BYTES:], type=CachedResponse)
        if response.key == key:
            return response
    CACHE_ERRORS.labels("decode").inc()
    return None
