"""ASGI middleware around every request: context, checks of URL and host, HEAD."""

import asyncio
import logging
import re
import time
import traceback
from pathlib import Path
from random import getrandbits
from typing import cast
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import AnalyticsError, Fault, HostNotAllowed, InvalidParameter
from common.key_metrics import NO_KEY, key_requests
from common.metrics import IN_FLIGHT, request_seconds, requests
from common.protocol_errors import Stopping
from config.logging import request_id
from routes.errors import analytics_problem
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
            IN_FLIGHT.dec()
            exchange.record()
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

    @property
    def method(self) -> str:
        return self._scope["method"] if self._scope["method"] in METHODS else "other"

    def record(self) -> None:
        """Record metrics and access line."""
        # The template of the route, not the path: paths contain users and are unbounded.
        seconds = time.perf_counter() - self._began
        route = getattr(self._scope.get("route"), "path", "(none)")
        status = self._status or CLIENT_GONE
        requests(self.method, route, status).inc()
        request_seconds(self.method, route).observe(seconds)
        state = self._scope["state"]
        key = state.get("key")
        key_requests(key.label if key else NO_KEY, status).inc()
        # Cache hits have metrics only: a log line costs as much as the response.
        level = logging.DEBUG if "hit" in state else logging.INFO
        if log.isEnabledFor(level):
            line = {
                "method": self.method,
                "route": route,
                "status": status,
                "key": key.name if key else NO_KEY,
                "seconds": round(seconds, 6),
            }
            log.log(level, "request", extra=line)


class ReadableUrl:
    """Rejects URLs that are not UTF-8, which would be decoded to other text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        part = _unreadable_part(scope) if scope["type"] == "http" else None
        if part is None:
            await self._app(scope, receive, send)
            return
        error = InvalidParameter(faults=[Fault(part, "must be UTF-8, percent-encoded")])
        await analytics_problem(error)(scope, receive, send)


class HostCheck:
    """While no key is needed, accepts only requests whose Host is a loopback name or address.

    Protects against DNS rebinding: a foreign page whose name resolves to 127.0.0.1 could otherwise
    read answers through the browser of a visitor.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = (
            scope["type"] == "http" and _needs_no_key(scope) and not _has_loopback_host(scope)
        )
        await (analytics_problem(HostNotAllowed()) if is_refused else self._app)(
            scope, receive, send
        )


class HeadAsGet:
    """Handles HEAD like GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            _share_route(inner, scope)
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy, because the server must still see HEAD.
        inner = {**scope, "method": "GET"}
        await self._app(inner, receive, without_body)


def _needs_no_key(scope: Scope) -> bool:
    return bool(scope["app"].state.resources.keys.is_open)


def _has_loopback_host(scope: Scope) -> bool:
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    try:
        return all(is_loopback(urlsplit(f"//{host}").hostname or "") for host in hosts)
    except ValueError:
        return False


def _share_route(inner: Scope, outer: Scope) -> None:
    if "route" in inner:
        outer["route"] = inner["route"]


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


def _unreadable_part(scope: Scope) -> str | None:
    parts = {"path": scope.get("raw_path") or b"", "query": scope.get("query_string") or b""}
    for name, raw in parts.items():
        if b"%" not in raw and raw.isascii():
            continue
        try:
            unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return name
    return None
