"""Middleware for the Authorization header: one key per request, and rejected requests count."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import TooManyRequests
from common.protocol_errors import AmbiguousKey
from routes.errors import analytics_problem
from services.container import Resources
from services.rate_limit import count_request

_METRICS = "/metrics"
_COMMA = re.compile(rb",")
_SECOND_TOKEN = re.compile(rb",\s*Bearer\s", re.IGNORECASE)


class SingleKey:
    """Rejects requests with more than one key.

    Keys contain no comma, so a comma separates two keys; the token of `/metrics` may contain one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = scope["type"] == "http" and _is_ambiguous(scope)
        await (analytics_problem(AmbiguousKey()) if is_refused else self._app)(scope, receive, send)


class CountRefusals:
    """Counts rejected requests against the rate limit of their key; beyond it they become a 429.

    Requests that were counted before they were rejected are not counted again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _authorizations(scope):
            send = _CountedResponse(scope, receive, send).send
        await self._app(scope, receive, send)


class _CountedResponse:
    """One response, which may be replaced by a 429."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._is_uncounted_refusal(
            message["status"]
        ):
            try:
                await self._count()
            except TooManyRequests as error:
                self._is_replaced = True
                await analytics_problem(error)(self._scope, self._receive, self._send)
        if not self._is_replaced:
            await self._send(message)

    def _is_uncounted_refusal(self, status: int) -> bool:
        """Whether the response rejects a request that was not counted."""
        return 400 <= status < 500 and "counted" not in self._scope["state"]

    async def _count(self) -> None:
        """Count the request against the limit of its key. Raises: TooManyRequests."""
        resources: Resources = self._scope["app"].state.resources
        (authorization,) = _authorizations(self._scope)
        key = resources.keys.find(authorization.decode("latin-1"))
        self._scope["state"]["key"] = key
        await count_request(resources.cache, resources.limits_of(key))


def _authorizations(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"authorization"]


def _is_ambiguous(scope: Scope) -> bool:
    authorizations = _authorizations(scope)
    separator = _SECOND_TOKEN if scope["path"] == _METRICS else _COMMA
    return len(authorizations) > 1 or any(map(separator.search, authorizations))
