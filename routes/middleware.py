"""What surrounds every request, in plain ASGI."""

import logging
import re
import time
import traceback
import uuid
from pathlib import Path
from urllib.parse import unquote_to_bytes

from opentelemetry.trace import Span
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import AnalyticsError, Fault, InvalidParameter
from common.metrics import IN_FLIGHT, REQUEST_SECONDS, REQUESTS
from config.logging import request_id
from routes.errors import analytics_problem
from services.hang_up import ClientGone
from utils.tracing import finish_server_span, server_span

log = logging.getLogger("analytics.access")

_FRAMES = 8
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499  # nobody was there to answer
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestContext:
    """Gives each request an id, a line in the log, its metrics, and a problem if all else fails."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = request_id.set(_request_id(scope))
        scope.setdefault("state", {})["began"] = time.monotonic()
        exchange = _Exchange(scope, send)
        IN_FLIGHT.inc()
        try:
            with server_span(exchange.method, Headers(scope=scope)) as span:
                try:
                    await self._answer(scope, receive, exchange)
                finally:
                    exchange.record(span)
        finally:
            IN_FLIGHT.dec()
            request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            pass
        except Exception as exc:
            log.error("a request failed", extra={"failure": _without_values(exc)})
            await exchange.fail(receive)


class _Exchange:
    """One request and what was answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = time.perf_counter()
        self._status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = request_id.get()
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)

    async def fail(self, receive: Receive) -> None:
        """Nothing can be said any more once the answer has begun."""
        if self._status is None:
            await analytics_problem(AnalyticsError())(self._scope, receive, self.send)

    @property
    def method(self) -> str:
        return self._scope["method"] if self._scope["method"] in _METHODS else "other"

    def record(self, span: Span | None) -> None:
        """By the route's template, since paths hold users and are without number."""
        seconds = time.perf_counter() - self._began
        route = getattr(self._scope.get("route"), "path", "(none)")
        status = self._status or _CLIENT_GONE
        finish_server_span(span, self.method, route, status)
        REQUESTS.labels(self.method, route, status).inc()
        REQUEST_SECONDS.labels(self.method, route).observe(seconds)
        line = {"method": self.method, "route": route, "status": status}
        log.info("request", extra={**line, "seconds": round(seconds, 6)})


class ReadableUrl:
    """Refuses addresses that are not UTF-8: they would be read as other ones."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        part = _unreadable_part(scope) if scope["type"] == "http" else None
        if part is None:
            await self._app(scope, receive, send)
            return
        error = InvalidParameter(faults=[Fault(part, "must be UTF-8, percent-encoded")])
        await analytics_problem(error)(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET is answered, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server still has to know that it was HEAD.
        inner = {**scope, "method": "GET"}
        await self._app(inner, receive, without_body)
        _share_route(inner, scope)


def _share_route(inner: Scope, outer: Scope) -> None:
    if "route" in inner:
        outer["route"] = inner["route"]


def _without_values(error: BaseException) -> list[str]:
    """What failed and where, the first cause first. Messages may hold what was sent."""
    cause = error.__cause__ or error.__context__
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    ]
    kind = f"{type(error).__name__} {getattr(error, 'pgcode', None) or ''}".strip()
    return [*(_without_values(cause) if cause else []), kind, *frames]


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex


def _unreadable_part(scope: Scope) -> str | None:
    parts = {"path": scope.get("raw_path") or b"", "query": scope.get("query_string") or b""}
    for name, raw in parts.items():
        try:
            unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return name
    return None
