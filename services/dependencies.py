"""FastAPI dependencies of the handlers.

All are async: FastAPI runs sync dependencies in a thread pool, which costs more than their work.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.security import APIKeyQuery, HTTPBearer

from common.errors import (
    BrowserEventsDisabled,
    Fault,
    InvalidKey,
    InvalidParameter,
    KeyNotForPages,
    Unauthorized,
    Unavailable,
)
from common.parameters import Parameters
from common.receipts import Receipt
from repo.api_keys import Scope
from repo.events import EventsRepo
from services.answering.question_request import QueryRunner, QuestionRequest
from services.answering.single_flight import BoundRepo
from services.auth import Caller, authorize, authorize_page
from services.cache_service import Limits
from services.container import Resources
from services.ingest.body_formats import TEXT
from services.ingest.http_body import media_type_of, write_key_in
from services.ingest.ingest_service import Ingest

_SHUTTING_DOWN = (
    "The service is shutting down. Nothing was erased, unless the erasure was committed at this "
    "moment: repeat the request."
)

_KEY_IN_URL = "An API key is required: send it as `?key=KEY`."


_KEY_IN_BODY = (
    "An API key is required: send it as the user name of `Authorization: Basic`, or as `writeKey` "
    "in the body."
)


async def get_resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


def _require_scope(scope: Scope) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """A dependency that returns the caller of a request, whose key must have this scope."""

    async def get_caller(
        request: Request,
        resources: Annotated[Resources, Depends(get_resources)],
        # Only for the OpenAPI description: it checks nothing.
        _: Annotated[object, Depends(HTTPBearer(auto_error=False))],
    ) -> Caller:
        """Raises: Unauthorized, InvalidKey, Forbidden, Unavailable."""
        authorization = request.headers.get("authorization")
        return await authorize(request.scope, authorization, resources, scope)

    return get_caller


get_reader = _require_scope("read")
get_writer = _require_scope("write")
get_admin = _require_scope("admin")


async def refuse_query(request: Request) -> None:
    """Reject any query parameter. Raises: InvalidParameter."""
    if request.query_params:
        raise InvalidParameter(faults=[Fault("(unknown)", "no query parameters are allowed")])


async def get_page(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    # Only for the OpenAPI description: it checks nothing.
    _: Annotated[object, Depends(APIKeyQuery(name="key", auto_error=False))],
) -> Caller:
    """The caller of a request of a web page, whose key is in the query string.

    Raises: Unauthorized, InvalidKey, Forbidden, BrowserEventsDisabled, InvalidParameter,
    KeyNotForPages, OriginNotAllowed, Unavailable.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if "key" not in names:
        raise Unauthorized(_KEY_IN_URL)
    if not request.app.state.settings.browser_events:
        raise BrowserEventsDisabled
    if names != ["key"]:
        raise InvalidParameter(faults=[Fault("(unknown)", "only `key` is allowed, once")])
    return await authorize_page(request.scope, request.query_params["key"], resources)


async def get_bound_repo(
    resources: Annotated[Resources, Depends(get_resources)],
    caller: Annotated[Caller, Depends(get_reader)],
) -> BoundRepo:
    """The repo of a request, with its deadline; no connection is taken from the pool yet."""
    return resources.answers.bind_repo(caller.deadline, caller.limits.caller)


async def get_events_repo(bound: Annotated[BoundRepo, Depends(get_bound_repo)]) -> EventsRepo:
    """The repo that runs the query of a request. It may be overridden."""
    return bound.repo


async def get_page_ingest(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    caller: Annotated[Caller, Depends(get_page)],
) -> Ingest:
    return Ingest(request, resources, caller)


async def get_ingest(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    caller: Annotated[Caller, Depends(get_writer)],
) -> Ingest:
    return Ingest(request, resources, caller)


async def get_segment_ingest(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    # Only for the OpenAPI description: it checks nothing.
    _: Annotated[object, Depends(HTTPBearer(auto_error=False))],
) -> AsyncIterator[Ingest]:
    """Stores calls of Segment's SDKs, some of which send their key in the body.

    Raises: Unauthorized, InvalidKey, Forbidden, OriginNotAllowed, KeyNotForPages,
    BrowserEventsDisabled, TooLarge, SlowBody, Busy, Unavailable, ClientDisconnected.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None or resources.keys.is_open:
        caller = await authorize(request.scope, authorization, resources, "write")
        _check_page(request)
        yield Ingest(request, resources, caller)
        return
    deadline = request.scope["state"]["began"] + resources.request_s
    async with resources.ingest.receive_keyless(request.stream(), deadline) as body:
        if (write_key := write_key_in(body)) is None:
            raise Unauthorized(_KEY_IN_BODY)
        caller = await authorize(request.scope, f"Bearer {write_key}", resources, "write")
        _check_page(request)
        yield Ingest(request, resources, caller, body)


def _check_page(request: Request) -> None:
    """Check that a page may send this request, for which it may have needed no preflight.

    Raises: InvalidKey, KeyNotForPages, BrowserEventsDisabled.
    """
    settings, key = request.app.state.settings, request.scope["state"]["key"]
    if key is None:  # no key exists, and plain text is what pages of any origin may send
        if media_type_of(request.headers) == TEXT:
            raise InvalidKey
        return
    origin = request.headers.get("origin")
    if origin is None or {origin, "*"} & set(settings.origins):
        return
    if not key.origins:
        raise KeyNotForPages
    if not settings.browser_events:
        raise BrowserEventsDisabled


class Erase:
    """Erases a user. The deadline is that of erasures, which is longer than that of questions."""

    def __init__(self, request: Request, resources: Resources, limits: Limits) -> None:
        self._request = request
        self._resources = resources
        self._limits = limits
        self._deadline = request.state.began + resources.erase_s

    async def __call__(self, user_id: str, *, suppressed: bool) -> Receipt:
        """The receipt of the erasure.

        Raises: TooManyRequests, TooSlow, Busy, Unavailable, DatabaseUnavailable.
        """
        self._request.state.counted = True
        await self._resources.cache.count(self._limits)
        try:
            return await self._resources.erasure.erase(
                user_id, suppressed=suppressed, deadline=self._deadline
            )
        except asyncio.CancelledError:  # by uvicorn at shutdown, which still sends the response
            raise Unavailable(_SHUTTING_DOWN) from None


async def get_erase(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    caller: Annotated[Caller, Depends(get_admin)],
) -> Erase:
    return Erase(request, resources, caller.limits)


async def get_query_runner(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    caller: Annotated[Caller, Depends(get_reader)],
    bound: Annotated[BoundRepo, Depends(get_bound_repo)],
) -> QueryRunner:
    overrides = request.app.dependency_overrides
    is_override = get_events_repo in overrides or get_bound_repo in overrides
    parsed = request.scope["state"].get("question")
    return QueryRunner(
        parsed or QuestionRequest(request.scope, request.receive, resources),
        caller,
        bound._replace(is_override=is_override),
    )


def refuse_repeated(*models: type[Parameters]) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that rejects repeated parameters, of which one value would be ignored.

    The dependency raises: InvalidParameter.
    """
    single = set[str]().union(*(model.single_parameters() for model in models))

    async def check(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        repeated = sorted(name for name in single if names.count(name) > 1)
        if repeated:
            raise InvalidParameter(faults=[Fault(name, "must be given once") for name in repeated])

    return check
