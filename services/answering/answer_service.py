"""From a question to its page: the cache first, else one flight to the repo."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from common.metrics import LIMITED, QUESTION_SECONDS, cache_requests
from config.database import Connection, Database, get_connection
from config.database_errors import DatabaseError
from services.answering.cache_versions import CacheVersions
from services.answering.single_flight import CallContext, SingleFlight
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits
from services.cached_response import CachedResponse, PreparedQuery, render
from services.database_identity import Identity
from services.rate_limit import refuse_over_limit
from utils.tracing import trace_span

CacheResult = Literal["hit", "miss", "stale"]

_NO_LIMITS = Limits()
_REFRESH_LIMITS = Limits("refresh")
"""All pages that are renewed share the connections of one caller."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long answers are kept, in seconds; `enabled` is the kill switch."""

    enabled: bool
    open_s: int
    closed_s: int
    request_s: float

    def may_share(self, query: PreparedQuery) -> bool:
        """Whether other processes may find the page: else they need not wait for it."""
        return self.enabled and (self.closed_s if query.cache_version else self.open_s) > 0


@dataclass(slots=True)
class ServedResponse:
    """A page, and what there is to tell about it."""

    response: CachedResponse
    cache: CacheResult
    lookup: CacheLookup | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def age_s(self) -> int:
        return self.lookup.age_ms // 1000 if self.lookup and self.cache != "miss" else 0


class AnswerService:
    """Answers questions; what is over is kept for long, as long as no late event changes it."""

    def __init__(
        self,
        cache: CacheService,
        database: Database,
        versions: CacheVersions,
        *,
        identity: Identity,
        policy: Policy,
    ) -> None:
        """`identity` tells apart the databases that share a cache, and may change."""
        self._cache = cache
        self._database = database
        self._versions = versions
        self._identity = identity
        self._policy = policy
        self._single_flight = SingleFlight(cache, self._run_query, may_store=policy.enabled)
        self._refreshing: set[asyncio.Task[None]] = set()

    def current(self, query: PreparedQuery) -> PreparedQuery:
        """The same question of this database, in the present edition, since the last erasure."""
        cache_version = self._versions.for_months(query.months) if query.months else None
        erasure, identity = self._versions.erasure_version, self._identity.value
        if (cache_version, erasure, identity) == (
            query.cache_version,
            query.erasure_version,
            query.identity,
        ):
            return query
        return replace(
            query, cache_version=cache_version, erasure_version=erasure, identity=identity
        )

    async def look_up(self, query: PreparedQuery, context: CallContext) -> CacheLookup | None:
        """What the cache says; None while Redis is away.

        Raises: TooManyRequests, TooManyAtOnce.
        """
        try:
            lookup = await self._cache.look_up(
                query.key,
                context.limits,
                bypass=self._bypasses_cache(context),
                may_lease=self._policy.may_share(query),
            )
        except CacheFailed:
            if context.limits:
                LIMITED.labels("unknown").inc()
            return None
        refuse_over_limit(lookup, context.limits)
        return lookup

    def hit(self, query: PreparedQuery, lookup: CacheLookup) -> ServedResponse | None:
        """The page if it will do; shortly before its end one of those who ask has it renewed."""
        if lookup.verdict != "hit" or lookup.response is None:
            return None
        cache_requests("hit").inc()
        if lookup.response.is_due(lookup.fresh_ms / 1000):
            self._refresh(query)
        return ServedResponse(lookup.response, "hit", lookup)

    async def compute(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None
    ) -> ServedResponse:
        """The page that was not found, or the old one while PostgreSQL is away.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        try:
            return ServedResponse(await self._fetch(query, context, lookup), "miss", lookup)
        except DatabaseError:
            response = await self._stale_response(query) if lookup and lookup.response else None
            if response is None:
                raise
            cache_requests("stale").inc()
            return ServedResponse(response, "stale", lookup)

    async def close(self) -> None:
        """Nobody waits for what is still being renewed."""
        for task in self._refreshing:
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)

    async def _stale_response(self, query: PreparedQuery) -> CachedResponse | None:
        """What an erasure has dropped since it was found is not served."""
        with suppress(CacheFailed):
            return await self._cache.get(self.current(query).key)
        return None

    def _bypasses_cache(self, context: CallContext) -> bool:
        return context.fresh or not self._policy.enabled

    async def _fetch(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None
    ) -> CachedResponse:
        if self._bypasses_cache(context):
            # A flight that took off before might not see what was committed since.
            cache_requests("bypass").inc()
            return await self._single_flight.fetch_alone(query, context, lookup)
        is_joining = self._single_flight.is_open(query.key)
        cache_requests(_result(lookup, is_joining=is_joining)).inc()
        return await self._single_flight.fetch(query, context, lookup)

    async def _run_query(self, query: PreparedQuery, context: CallContext) -> CachedResponse:
        connection = get_connection(self._database, context.deadline, context.limits.caller)
        return await self._run_timed(query, connection)

    async def _run_timed(self, query: PreparedQuery, connection: Connection) -> CachedResponse:
        began, source = time.perf_counter(), "none"
        try:
            response, source = await connection.run(lambda: self._render(query, connection))
            return response
        finally:
            QUESTION_SECONDS.labels(query.name, source).observe(time.perf_counter() - began)

    def _render(self, query: PreparedQuery, connection: Connection) -> tuple[CachedResponse, str]:
        """With what it was answered from. Runs in a thread."""
        began = time.perf_counter()
        answer = query.answer(connection)
        is_versioned = query.cache_version and answer.cache_version and answer.meta.is_settled
        ttl_s = self._policy.closed_s if is_versioned else self._policy.open_s
        if connection.identity != query.identity:  # it leads to another database than its key says
            ttl_s = 0
        with trace_span("write"):
            response = render(query, answer, compute_s=time.perf_counter() - began, fresh_s=ttl_s)
        return response, answer.meta.source

    def _refresh(self, query: PreparedQuery) -> None:
        if not self._single_flight.is_open(query.key):
            task = asyncio.create_task(self._run_refresh(query))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _run_refresh(self, query: PreparedQuery) -> None:
        context = CallContext(_REFRESH_LIMITS, time.monotonic() + self._policy.request_s)
        with suppress(CacheFailed, DatabaseError):
            lookup = await self._cache.look_up(query.key, _NO_LIMITS, bypass=True)
            if lookup.holds_lease:
                cache_requests("refresh").inc()
                await self._single_flight.fetch(query, context, lookup)


def _result(lookup: CacheLookup | None, *, is_joining: bool) -> str:
    if lookup is None:
        return "error"
    return "joined" if is_joining or not lookup.holds_lease else "miss"
