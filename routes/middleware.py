"""ASGI middleware: the context of a request, checks that need no route, and the fast path."""

import asyncio
import logging
import re
import time
import traceback
from functools import lru_cache
from pathlib import Path
from random import getrandbits
from typing import cast
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import (
    AnalyticsError,
    Fault,
    HostNotAllowed,
    InvalidParameter,
    TooManyRequests,
    translate_database_error,
)
from common.key_metrics import NO_KEY, key_requests
from common.metrics import IN_FLIGHT, request_seconds, requests
from common.protocol_errors import AmbiguousKey, Stopping
from config.database_errors import DatabaseError
from config.logging import request_id
from routes.errors import analytics_problem
from services.answering.question_request import QuestionRequest
from services.auth import limits_of
from services.container import Resources
from services.disconnect import ClientDisconnected
from utils.paths import is_loopback

log = logging.getLogger("analytics.access")

_FRAMES = 8
_VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
CLIENT_GONE = 499  # nginx's code for a client that closed the connection
_LIST_HEADERS = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"cache-control",
        b"content-encoding",
        b"content-type",  # not a list: joined, a second value makes it invalid instead of ignored
        b"if-none-match",
    }
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_METRICS = "/metrics"
_QUESTIONS = "/analytics/"
_COMMA = re.compile(rb",")
_SECOND_TOKEN = re.compile(rb",\s*Bearer\s", re.IGNORECASE)


class RequestContext:
    """Gives each request an id, metrics, an access line, and a 500 if it fails."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = _join_lists(scope["headers"])
        token = request_id.set(_request_id_of(scope))
        scope.setdefault("state", {})["began"] = time.monotonic()
        exchange = _Exchange(scope, send)
        IN_FLIGHT.inc()
        try:
            await self._answer(scope, receive, exchange)
        finally:
            exchange.record()
            IN_FLIGHT.dec()
            request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            await self._app(scope, receive, exchange.send)
        except ClientDisconnected:
            pass
        except (
            asyncio.CancelledError
        ):  # the service stops, and the time for requests in flight is over
            await exchange.fail(receive, Stopping())
        except Exception as exc:
            log.error("a request failed", extra={"failure": _without_values(exc)})
            await exchange.fail(receive, AnalyticsError())


class _Exchange:
    """One request and the status of its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = time.perf_counter()
        self._status: int | None = None
        self._method = scope["method"] if scope["method"] in METHODS else "other"

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._scope["state"]["status"] = self._status = message["status"]
            id_header = (b"x-request-id", request_id.get().encode())
            message["headers"] = [*message["headers"], id_header, _NO_SNIFFING]
        await self._send(message)

    async def fail(self, receive: Receive, error: AnalyticsError) -> None:
        """Send the error, unless the response has begun."""
        if self._status is None:
            await analytics_problem(error)(self._scope, receive, self.send)

    def record(self) -> None:
        """Record metrics and access line."""
        # The template of the route, not the path: paths contain users and are unbounded.
        seconds = time.perf_counter() - self._began
        route = getattr(self._scope.get("route"), "path", "(none)")
        status = self._status or CLIENT_GONE
        requests(self._method, route, status).inc()
        request_seconds(self._method, route).observe(seconds)
        state = self._scope["state"]
        key = state.get("key")
        key_requests(key.label if key else NO_KEY, status).inc()
        # Cache hits have metrics only: a log line costs as much as the response.
        level = logging.DEBUG if "hit" in state else logging.INFO
        if log.isEnabledFor(level):
            line = {
                "method": self._method,
                "route": route,
                "status": status,
                "key": key.name if key else NO_KEY,
                "seconds": round(seconds, 6),
            }
            log.log(level, "request", extra=line)


class RequestChecks:
    """Rejects requests that no route may see, and handles HEAD like GET, without the body.

    With an `Authorization` header, each rejection below this point counts against the rate limit of
    the key; beyond the limit it becomes a 429.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        authorizations = [value for name, value in scope["headers"] if name == b"authorization"]
        if error := _host_error(scope) or _key_error(scope["path"], authorizations):
            await analytics_problem(error)(scope, receive, send)
            return
        if authorizations:
            send = _CountedResponse(scope, receive, send, authorizations[0]).send
        if error := _url_error(scope):
            await analytics_problem(error)(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._answer_head(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            if "route" in inner:
                scope["route"] = inner["route"]
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy, because the server must still see HEAD.
        inner = {**scope, "method": "GET"}
        await self._app(inner, receive, without_body)


class _CountedResponse:
    """One response to a request with a key, which may be replaced by a 429."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, authorization: bytes) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._authorization = authorization
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
        key = resources.keys.find(self._authorization.decode("latin-1"))
        self._scope["state"]["key"] = key
        await resources.cache.count(limits_of(key, resources))


class FastPath:
    """Answers repeated questions before routing and validation.

    A cache hit takes one round trip to Redis, no thread and no database connection. Requests that
    are not in the cache of recent requests go through the router.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An overridden dependency would not be called here.
        may_be_remembered = (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"].startswith(_QUESTIONS)
            and not scope["app"].dependency_overrides
        )
        response = await self._answer(scope, receive) if may_be_remembered else None
        await (response or self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """The response; None if the router must handle the request. Raises: ClientDisconnected."""
        try:
            request = QuestionRequest(scope, receive, scope["app"].state.resources)
            scope["state"]["question"] = request  # the handler continues with it
            return await request.answer_remembered()
        except AnalyticsError as error:
            return analytics_problem(error)
        except DatabaseError as error:
            return analytics_problem(translate_database_error(error))


def _host_error(scope: Scope) -> AnalyticsError | None:
    """While no key is needed, accept only requests whose Host is a loopback name or address.

    Protects against DNS rebinding: a foreign page whose name resolves to 127.0.0.1 could otherwise
    read answers through the browser of a visitor.
    """
    if not scope["app"].state.resources.keys.is_open:
        return None
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return None if all(map(_is_local, hosts)) else HostNotAllowed()


@lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host.decode('latin-1')}").hostname or "")
    except ValueError:
        return False


def _key_error(path: str, authorizations: list[bytes]) -> AnalyticsError | None:
    """Accept at most one key.

    Keys contain no comma, so a comma separates two keys; the token of `/metrics` may contain one.
    """
    separator = _SECOND_TOKEN if path == _METRICS else _COMMA
    is_ambiguous = len(authorizations) > 1 or any(map(separator.search, authorizations))
    return AmbiguousKey() if is_ambiguous else None


def _url_error(scope: Scope) -> AnalyticsError | None:
    """Accept only URLs that are UTF-8; others would be decoded to other text."""
    for part in ("raw_path", "query_string"):
        raw = scope.get(part) or b""
        if b"%" in raw or not raw.isascii():
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError:
                parameter = "path" if part == "raw_path" else "query"
                fault = Fault(parameter, "must be UTF-8, percent-encoded")
                return InvalidParameter(faults=[fault])
    return None


def _without_values(error: BaseException) -> list[str]:
    """Types and positions of an error and its causes, the first cause first."""
    # Without messages, which may contain values of the request.
    cause = error.__cause__ or error.__context__
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    ]
    kind = f"{type(error).__name__} {getattr(error, 'pgcode', None) or ''}".strip()
    return [*(_without_values(cause) if cause else []), kind, *frames]


def _join_lists(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Join header lines of lists, which are equivalent to one line (RFC 9110, section 5.3)."""
    lists = [header for header in headers if header[0] in _LIST_HEADERS]
    joined: dict[bytes, bytes] = {}
    for name, value in lists:
        joined[name] = joined[name] + b", " + value if name in joined else value
    if len(joined) == len(lists):
        return headers
    return [*(header for header in headers if header[0] not in _LIST_HEADERS), *joined.items()]


def _request_id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _VALID_REQUEST_ID.fullmatch(value):
            return cast(bytes, value).decode()
    return f"{getrandbits(128):032x}"  # not a secret, so no system call is needed
