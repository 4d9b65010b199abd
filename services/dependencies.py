"""FastAPI dependencies of the handlers.

All are async: FastAPI runs sync dependencies in a thread pool, which costs more than their work.
"""

import asyncio
from collections.abc import Callable, Coroutine
from operator import methodcaller
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer

from common.errors import Unavailable
from common.query import Query
from common.questions.answer import Answer
from common.questions.base import Question
from common.receipts import Receipt
from repo.api_keys import ApiKey, Scope
from repo.events import EventsRepo
from services.answering.answer_service import bind_repo
from services.answering.responses import (
    RememberedRequest,
    accepts_gzip,
    asks_for_fresh,
    deliver,
    receipt,
    request_key,
    respond,
)
from services.answering.single_flight import BoundRepo, CallContext
from services.cache_service import CacheLookup, Limits
from services.cached_response import PreparedQuery
from services.container import Resources
from services.rate_limit import count_request
from utils.formats import preferred_format

_SHUTTING_DOWN = (
    "The service is shutting down. Nothing was erased, unless the erasure was committed at this "
    "moment: repeat the request."
)


async def get_resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


def _require_scope(scope: Scope) -> Callable[..., Coroutine[Any, Any, ApiKey | None]]:
    """A dependency that returns the API key of a request, which must have this scope."""

    async def get_key(
        request: Request,
        resources: Annotated[Resources, Depends(get_resources)],
        # Only for the OpenAPI description: it checks nothing.
        _: Annotated[object, Depends(HTTPBearer(auto_error=False))],
    ) -> ApiKey | None:
        """The key; None if none is required.

        Raises: Unauthorized, InvalidKey, Forbidden, Unavailable.
        """
        deadline = request.state.began + resources.request_s
        authorization = request.headers.get("authorization")
        key = await resources.keys.check(authorization, scope, deadline)
        request.state.authorized = True
        request.state.key = key
        return key

    return get_key


get_reader = _require_scope("read")
get_writer = _require_scope("write")
get_admin = _require_scope("admin")


async def get_bound_repo(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    key: Annotated[ApiKey | None, Depends(get_reader)],
) -> BoundRepo:
    """The repo of a request, with its deadline; no connection is taken from the pool yet."""
    deadline = request.state.began + resources.request_s
    return bind_repo(resources.database, deadline, resources.limits_of(key).caller)


async def get_events_repo(bound: Annotated[BoundRepo, Depends(get_bound_repo)]) -> EventsRepo:
    """The repo that runs the query of a request. It may be overridden."""
    return bound.repo


class QueryRunner:
    """Answers the question of a request, and renders the response in the form that it accepts."""

    def __init__(
        self, request: Request, resources: Resources, key: ApiKey | None, bound: BoundRepo
    ) -> None:
        self._request = request
        self._resources = resources
        self._limits = resources.limits_of(key)
        # The answers of an override belong to no database whose identity a cache key could have.
        self._is_overridden = get_events_repo in request.app.dependency_overrides
        self._context = CallContext(
            self._limits,
            request.state.began + resources.request_s,
            lambda: bound,
            self._is_overridden or asks_for_fresh(request.headers),
        )

    async def __call__(self, method: Callable[[Any], Answer[Any]], question: Question) -> Response:
        """The response to a question. `method` is a bound method of a repo.

        Raises: TooManyRequests, TooManyConcurrent, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
        ClientDisconnected.
        """
        request = self._request
        request.state.counted = True
        query = self._prepare(method, question)
        if not self._is_overridden:
            self._remember(query)
        served = await deliver(self._resources.answers, query, self._context, request.receive)
        return respond(served, request.headers, self._limits, request.state.began)

    def _remember(self, query: PreparedQuery) -> None:
        """Let the fast path answer the next request of this form."""
        scope = self._request.scope
        if lru_key := request_key(scope, self._request.headers):
            remembered = RememberedRequest(query, scope["route"])
            self._resources.recent_requests[lru_key] = remembered

    def _prepare(self, method: Callable[[Any], Answer[Any]], question: Question) -> PreparedQuery:
        headers = self._request.headers
        form = question.format or preferred_format(headers.get("accept", ""))
        compressed = accepts_gzip(headers)
        coding = "gzip" if compressed else "plain"
        query = PreparedQuery(
            question.name,
            f"{question.name}:{form}:{coding}:{question.fingerprint()}",
            question.query.months,
            None,
            "",
            form,
            compressed,
            self._call(method, question.query),
        )
        return self._resources.answers.current(query)

    def _call(
        self, method: Callable[[Any], Answer[Any]], query: Query
    ) -> Callable[[EventsRepo], Answer[Any]]:
        """The call of this method on any repo, or on the override alone."""
        if self._is_overridden:
            return lambda _: method(query)
        return methodcaller(method.__name__, query)


async def _count(request: Request, resources: Resources, limits: Limits) -> CacheLookup | None:
    """Count a request that is not a question against the rate limit. Raises: TooManyRequests."""
    request.state.counted = True
    return await count_request(resources.cache, limits)


class Ingest:
    """Stores the events of a request."""

    def __init__(self, request: Request, resources: Resources, key: ApiKey | None) -> None:
        self._request = request
        self._resources = resources
        self._limits = resources.limits_of(key)

    async def __call__(self) -> Response:
        """The response with the counts of stored events.

        Raises: UnsupportedMedia, UnreadableBody, SlowBody, TooLarge, InvalidEvents,
        TooManyRequests, Busy, TooSlow, Unavailable, ClientDisconnected.
        """
        request, ingest = self._request, self._resources.ingest
        lookup = await _count(request, self._resources, self._limits)
        deadline = request.state.began + self._resources.request_s
        caller = self._limits.caller
        result = await ingest.store(request.headers, request.stream(), deadline, caller)
        return receipt(result, lookup, self._limits)


async def get_ingest(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    key: Annotated[ApiKey | None, Depends(get_writer)],
) -> Ingest:
    return Ingest(request, resources, key)


class Erase:
    """Erases a user. The deadline is that of erasures, which is longer than that of questions."""

    def __init__(self, request: Request, resources: Resources, key: ApiKey | None) -> None:
        self._request = request
        self._resources = resources
        self._limits = resources.limits_of(key)
        self._deadline = request.state.began + resources.erase_s

    async def __call__(self, user_id: str, *, suppressed: bool) -> Receipt:
        """The receipt of the erasure.

        Raises: TooManyRequests, TooSlow, Busy, Unavailable, DatabaseUnavailable.
        """
        await _count(self._request, self._resources, self._limits)
        try:
            return await self._resources.erasure.erase(
                user_id, suppressed=suppressed, deadline=self._deadline
            )
        except asyncio.CancelledError:  # by uvicorn at shutdown, which still sends the response
            raise Unavailable(_SHUTTING_DOWN) from None


async def get_erase(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    key: Annotated[ApiKey | None, Depends(get_admin)],
) -> Erase:
    return Erase(request, resources, key)


async def get_query_runner(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    key: Annotated[ApiKey | None, Depends(get_reader)],
    bound: Annotated[BoundRepo, Depends(get_bound_repo)],
) -> QueryRunner:
    return QueryRunner(request, resources, key, bound)
