"""FastAPI dependencies of the handlers.

All are async: FastAPI runs sync dependencies in a thread pool, which costs more than their work.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer

from common.errors import Unavailable
from common.questions.answer import Answer
from common.questions.base import Question
from common.receipts import Receipt
from config.database import Connection, get_connection
from repo.api_keys import ApiKey, Scope
from repo.events import EventsRepo
from services.answering.responses import (
    RememberedRequest,
    accepts_gzip,
    call_context,
    deliver,
    receipt,
    request_key,
    respond,
)
from services.cache_service import CacheLookup, Limits
from services.cached_response import PreparedQuery
from services.container import Resources
from services.ingest.http_body import parse_body_headers
from services.rate_limit import count_request
from utils.formats import preferred_format

_SHUTTING_DOWN = (
    "The service is shutting down. Nothing was erased, unless the erasure was committed at this "
    "moment: repeat the request."
)

Q = TypeVar("Q", bound=Question)


async def get_resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


async def get_request_connection(
    request: Request, resources: Annotated[Resources, Depends(get_resources)]
) -> Connection:
    """A connection with the deadline of the request; none is taken from the pool yet."""
    return get_connection(resources.database, request.state.began + resources.request_s)


async def get_events_repo(
    connection: Annotated[Connection, Depends(get_request_connection)],
) -> EventsRepo:
    return EventsRepo(connection)


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


class QueryRunner:
    """Answers the question of a request, and renders the response in the form that it accepts."""

    def __init__(self, request: Request, resources: Resources, key: ApiKey | None) -> None:
        self._request = request
        self._resources = resources
        self._limits = resources.limits_of(key)
        deadline = request.state.began + resources.request_s
        self._context = call_context(request.headers, self._limits, deadline)

    async def __call__(self, method: Callable[[Q], Answer[Any]], question: Q) -> Response:
        """The response to a question. `method` is a bound method of a repo.

        Raises: TooManyRequests, TooManyConcurrent, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
        ClientDisconnected.
        """
        request = self._request
        request.state.counted = True
        query = self._prepare(method, question)
        if lru_key := request_key(request.scope, request.headers):
            remembered = RememberedRequest(query, request.scope["route"])
            self._resources.recent_requests[lru_key] = remembered
        served = await deliver(self._resources.answers, query, self._context, request.receive)
        return respond(served, request.headers, self._limits, request.state.began)

    def _prepare(self, method: Callable[[Q], Answer[Any]], question: Q) -> PreparedQuery:
        headers = self._request.headers
        form = question.format or preferred_format(headers.get("accept", ""))
        compressed = accepts_gzip(headers)
        coding = "gzip" if compressed else "plain"
        # Only the type of the repo is kept: a prepared query outlives the request, and gets the
        # connection that runs it.
        repo_type = type(cast(Any, method).__self__)
        query = PreparedQuery(
            question.name,
            f"{question.name}:{form}:{coding}:{question.fingerprint()}",
            question.months,
            None,
            "",
            form,
            compressed,
            partial(_answer, repo_type, method.__name__, question),
        )
        return self._resources.answers.current(query)


def _answer(
    repo_type: Callable[[Connection], object],
    method: str,
    question: Question,
    connection: Connection,
) -> Answer[Any]:
    return cast(Answer[Any], getattr(repo_type(connection), method)(question))


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
        body_headers, caller = parse_body_headers(request.headers), self._limits.caller
        result = await ingest.store(body_headers, request.stream(), deadline, caller)
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
) -> QueryRunner:
    return QueryRunner(request, resources, key)
