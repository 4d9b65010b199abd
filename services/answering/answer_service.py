"""Answer service: answers a question from the cache, or computes the response and stores it."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from starlette.types import Receive

from common.metrics import LIMITED, QUESTION_SECONDS, cache_requests
from common.questions.answer import Answer, Checkpoint, MoreToRead, Reading, Result
from common.questions.base import Question
from config.database import Database, get_connection
from config.database_errors import DatabaseError
from repo.events import EventsRepo
from services.answering.cache_versions import CacheVersions
from services.answering.evaluator import Evaluator
from services.answering.single_flight import BoundRepo, CallContext, SingleFlight
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits
from services.cached_response import CachedResponse, PreparedQuery, render
from services.database_identity import Identity
from services.disconnect import cancel_on_disconnect
from utils import tracing
from utils.formats import Format

CacheResult = Literal["hit", "miss", "stale"]

_NO_LIMITS = Limits()
# All refreshes count as this one caller, so that they never take all connections of the pool.
_REFRESH_LIMITS = Limits("refresh")


@dataclass(frozen=True, slots=True)
class Policy:
    """Cache lifetimes in seconds, for ranges that are still open and for those that are closed.

    `enabled` false: every response is computed, and none is stored.
    """

    enabled: bool
    open_s: int
    closed_s: int
    request_s: float

    def may_share(self, query: PreparedQuery) -> bool:
        """Whether the response will be stored, so that other processes can wait for it."""
        return self.enabled and (self.closed_s if query.cache_version else self.open_s) > 0


@dataclass(slots=True)
class ServedResponse:
    """A response, how it was obtained, and the seconds that each step took, by step."""

    query: PreparedQuery
    response: CachedResponse
    cache: CacheResult
    lookup: CacheLookup | None
    seconds: dict[str, float] = field(default_factory=dict)


class _Computed(NamedTuple):
    """A response, and the source that its answer was computed from."""

    response: CachedResponse
    source: str


class _Unfinished(NamedTuple):
    """The evaluation that returns a response, and the bytes that it holds."""

    evaluate: Callable[[Checkpoint], _Computed | MoreToRead[Any]]
    size: int


class AnswerService:
    """Answers questions.

    Responses about closed ranges are cached for long: a late event changes the cache version of
    its month, and with it their keys.
    """

    def __init__(
        self,
        cache: CacheService,
        database: Database,
        versions: CacheVersions,
        evaluator: Evaluator,
        *,
        identity: Identity,
        policy: Policy,
    ) -> None:
        """`identity` is part of every cache key, since several databases may share a Redis. It
        changes when the URL leads to another database."""
        self._cache = cache
        self._database = database
        self._versions = versions
        self._evaluator = evaluator
        self._identity = identity
        self._policy = policy
        self._single_flight = SingleFlight(cache, self._run_query, may_store=policy.enabled)
        self._refreshing: set[asyncio.Task[None]] = set()

    def bind_repo(self, deadline: float, caller: str) -> BoundRepo:
        """The repo of one request; its connection is taken from the pool by the first statement.

        `deadline` is in monotonic time. Connections are shared fairly between callers.
        """
        connection = get_connection(self._database, deadline, caller)
        return BoundRepo(EventsRepo(connection), connection)

    def prepare(
        self,
        question: Question,
        form: Format,
        answer: Callable[[EventsRepo], Result[Any]],
        *,
        compressed: bool,
    ) -> PreparedQuery:
        """The query of a question. `answer` answers it with any repo."""
        coding = "gzip" if compressed else "plain"
        base_key = f"{question.cache_name}:{form}:{coding}:{question.fingerprint()}"
        months, versions = question.query.months, self._versions
        return PreparedQuery(
            question.name,
            base_key,
            months,
            versions.for_months(months) if months else None,
            versions.erasure_version,
            form,
            compressed,
            answer,
            self._identity.value,
            versions.epoch,
        )

    def current(self, query: PreparedQuery) -> PreparedQuery:
        """The query with the current cache version, erasure version and database identity."""
        versions = self._versions
        if query.epoch is versions.epoch:
            return query
        return replace(
            query,
            cache_version=versions.for_months(query.months) if query.months else None,
            erasure_version=versions.erasure_version,
            identity=self._identity.value,
            epoch=versions.epoch,
        )

    async def answer(
        self, query: PreparedQuery, context: CallContext, receive: Receive
    ) -> ServedResponse:
        """The response to a question, cached or computed; cancelled when the client disconnects.

        Raises: TooManyRequests, TooManyConcurrent, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
        ClientDisconnected.
        """
        began = time.perf_counter()
        query = self.current(query)
        lookup = await self._look_up(query, context)
        looked_up_at = time.perf_counter()
        served = self._hit(query, lookup) if lookup else None
        if served is None:
            served = await self._compute(query, context, receive, lookup)
            served.seconds["answer"] = time.perf_counter() - looked_up_at
        served.seconds["cache"] = looked_up_at - began
        return served

    async def _look_up(self, query: PreparedQuery, context: CallContext) -> CacheLookup | None:
        """The result of the lookup in Redis; None while Redis is unavailable.

        Raises: TooManyRequests, TooManyConcurrent.
        """
        try:
            return await self._cache.look_up(
                query.key,
                context.limits,
                bypass=self._bypasses_cache(context),
                may_lease=self._policy.may_share(query),
            )
        except CacheFailed:
            if context.limits:
                LIMITED.labels("unknown").inc()
            return None

    def _hit(self, query: PreparedQuery, lookup: CacheLookup) -> ServedResponse | None:
        """The cached response, if the lookup found a fresh one.

        Shortly before the response expires, a refresh is started in the background.
        """
        if lookup.verdict != "hit" or lookup.response is None:
            return None
        cache_requests("hit").inc()
        if is_refresh_due(lookup.response, lookup.fresh_ms / 1000):
            self._refresh(query)
        return ServedResponse(query, lookup.response, "hit", lookup)

    async def _compute(
        self,
        query: PreparedQuery,
        context: CallContext,
        receive: Receive,
        lookup: CacheLookup | None,
    ) -> ServedResponse:
        """A newly computed response; if that fails, the stale one of the cache, if there is one.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable, ClientDisconnected.
        """
        try:
            response = await cancel_on_disconnect(receive, self._fetch(query, context, lookup))
            return ServedResponse(query, response, "miss", lookup)
        except DatabaseError:
            stale = await self._stale_response(query) if lookup and lookup.response else None
            if stale is None:
                raise
            cache_requests("stale").inc()
            return ServedResponse(query, stale, "stale", lookup)

    async def close(self) -> None:
        """Cancel the refreshes that still run: no client waits for them."""
        for task in self._refreshing:
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)

    async def _stale_response(self, query: PreparedQuery) -> CachedResponse | None:
        # The response of the lookup is not used: an erasure may have purged it since. Reading again
        # finds it only if it is still there.
        with suppress(CacheFailed):
            return await self._cache.get(self.current(query).key)
        return None

    def _bypasses_cache(self, context: CallContext) -> bool:
        return context.fresh or not self._policy.enabled

    def _fetch(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None
    ) -> Coroutine[Any, Any, CachedResponse]:
        """The computation of a response, or the wait for one that is in progress."""
        if self._bypasses_cache(context):
            # An open flight may have taken its snapshot before the last commit of this client.
            cache_requests("bypass").inc()
            return self._single_flight.fetch_alone(query, context, lookup)
        is_joining = self._single_flight.is_open(query.key)
        if lookup is None:
            cache_requests("error").inc()
        else:
            cache_requests("joined" if is_joining or not lookup.holds_lease else "miss").inc()
        return self._single_flight.fetch(query, context, lookup)

    async def _run_query(self, query: PreparedQuery, context: CallContext) -> CachedResponse:
        began, source = time.perf_counter(), "none"
        bound = context.bound or self.bind_repo(context.deadline, context.limits.caller)
        try:
            result: _Computed | _Unfinished | MoreToRead[Any]
            result = await bound.connection.run(partial(self._read, query, bound))
            while not isinstance(result, _Computed):
                if isinstance(result, _Unfinished):
                    # The connection is back in the pool.
                    result = await self._evaluate(result, query, context)
                else:
                    more = partial(self._read_more, query, bound, result)
                    result = await bound.connection.run(more)
            source = result.source
            return result.response
        finally:
            QUESTION_SECONDS.labels(query.name, source).observe(time.perf_counter() - began)

    async def _evaluate(
        self, unfinished: _Unfinished, query: PreparedQuery, context: CallContext
    ) -> _Computed | MoreToRead[Any]:
        evaluate, size = unfinished
        caller = context.limits.caller
        return await self._evaluator.run(evaluate, query.name, context.deadline, size, caller)

    def _read(self, query: PreparedQuery, bound: BoundRepo) -> _Computed | _Unfinished:
        """The response, or what it is computed from. Runs in the thread of a connection."""
        began = time.perf_counter()
        result = query.answer(bound.repo)
        if isinstance(result, Reading):
            return self._unfinished(query, bound, began, result)
        return self._finish(query, bound, began, result)

    def _read_more(
        self, query: PreparedQuery, bound: BoundRepo, more: MoreToRead[Any]
    ) -> _Unfinished:
        """Read what the evaluation asked for. Runs in the thread of a connection."""
        began = time.perf_counter()
        return self._unfinished(query, bound, began, bound.repo.read_more(more))

    def _unfinished(
        self, query: PreparedQuery, bound: BoundRepo, began: float, reading: Reading[Any]
    ) -> _Unfinished:
        def evaluate(checkpoint: Checkpoint) -> _Computed | MoreToRead[Any]:
            result = reading.evaluate(checkpoint)
            if isinstance(result, MoreToRead):
                return result
            return self._finish(query, bound, began, result)

        return _Unfinished(evaluate, reading.size)

    def _finish(
        self, query: PreparedQuery, bound: BoundRepo, began: float, answer: Answer[Any]
    ) -> _Computed:
        identity = None if bound.is_override else bound.connection.identity
        return _Computed(self._render(query, answer, identity, began), answer.meta.source)

    def _render(
        self, query: PreparedQuery, answer: Answer[Any], identity: str | None, began: float
    ) -> CachedResponse:
        """`identity` is that of the database which gave the answer, None if none did."""
        is_settled = query.cache_version is not None and answer.is_settled
        ttl_s = self._policy.closed_s if is_settled else self._policy.open_s
        # The answer is not from the database in the key: do not store the response.
        if identity != query.identity:
            ttl_s = 0
        with tracing.span("write"):
            return render(query, answer, compute_s=time.perf_counter() - began, fresh_s=ttl_s)

    def _refresh(self, query: PreparedQuery) -> None:
        if not self._single_flight.is_open(query.key):
            task = asyncio.create_task(self._run_refresh(query))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _run_refresh(self, query: PreparedQuery) -> None:
        deadline = time.monotonic() + self._policy.request_s
        context = CallContext(_REFRESH_LIMITS, deadline)
        with suppress(CacheFailed, DatabaseError):
            lookup = await self._cache.look_up(query.key, _NO_LIMITS, bypass=True)
            if lookup.holds_lease:
                cache_requests("refresh").inc()
                await self._single_flight.fetch(query, context, lookup)


def is_refresh_due(response: CachedResponse, remaining_s: float) -> bool:
    """Whether to refresh a response now, `remaining_s` seconds before it expires.

    The decision is random, and more likely the closer the expiry and the longer the computation.
    Method: "Optimal Probabilistic Cache Stampede Prevention" (Vattani, Chierichetti, Lowenstein;
    VLDB 2015).
    """
    return remaining_s < -response.compute_s * math.log(1 - random.random())
