"""Trace requests with OpenTelemetry's instrumentation of FastAPI, without values of users.

The instrumentation records the URL, the Host and the address of the client, decodes each header,
and matches the URL against each route. So it gets a copy of the scope that has only a method and a
trace context: `HideRequest` stands around it and `ShowRequest` within it, where the application
gets the original scope, and the span gets the name of the route.
"""

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.trace_settings import use_stable_names
from routes.middleware import CLIENT_GONE, METHODS
from utils.tracing import child_spans, enable_spans

_UNTRACED = ("/healthz", "/readyz", "/metrics")
_ORIGINAL = "analytics.scope"
_CONTEXT_HEADER = b"traceparent"


def instrument(app: FastAPI, provider: TracerProvider, *, link_only: bool) -> None:
    """Trace requests with this provider. All other middleware must have been added before.

    With `link_only`, traces of clients are linked instead of continued.
    """
    use_stable_names()
    enable_spans()
    FastAPIInstrumentor.instrument_app(
        app,
        server_request_hook=_link_to_client if link_only else None,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        excluded_urls=",".join(f"{path}$" for path in _UNTRACED),
        exclude_spans=["receive", "send"],
    )
    app.add_middleware(ShowRequest, tracer=provider.get_tracer("analytics"))
    build_instrumented = app.build_middleware_stack

    def build_middleware_stack() -> ASGIApp:
        return HideRequest(build_instrumented(), has_context=not link_only)

    app.build_middleware_stack = build_middleware_stack  # type: ignore[method-assign]


class HideRequest:
    """Passes on a scope without the values of the request."""

    def __init__(self, app: ASGIApp, *, has_context: bool) -> None:
        self._app = app
        self._has_context = has_context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {
                "type": "http",
                "app": _NoRoutes,
                "method": scope["method"] if scope["method"] in METHODS else "_OTHER",
                "path": scope["path"] if scope["path"] in _UNTRACED else "",
                "headers": _trace_context(scope) if self._has_context else [],
                _ORIGINAL: scope,
            }
        await self._app(scope, receive, send)


class ShowRequest:
    """Passes on the original scope, and names the span by the route that answers."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = scope.get(_ORIGINAL, scope)
        span = trace.get_current_span()
        if not span.is_recording():
            await self._app(scope, receive, send)
            return

        has_begun = False

        async def send_named(message: Message) -> None:
            nonlocal has_begun
            if not has_begun:  # the instrumentation ends the span with the last message
                has_begun = True
                _name_by_route(span, scope)
            await send(message)

        with child_spans(self._tracer):
            await self._app(scope, receive, send_named)
        if not has_begun:
            _name_by_route(span, scope)
            span.set_attribute("http.response.status_code", CLIENT_GONE)


class _NoRoutes:
    """The application that the instrumentation sees."""

    routes = ()


def _name_by_route(span: Span, scope: Scope) -> None:
    method = scope["method"] if scope["method"] in METHODS else "HTTP"
    if route := scope.get("route"):
        span.set_attribute("http.route", route.path)
        method = f"{method} {route.path}"
    span.update_name(method)


def _link_to_client(span: Span, scope: Scope) -> None:
    headers = {name.decode(): value.decode() for name, value in _trace_context(scope[_ORIGINAL])}
    client = trace.get_current_span(extract(headers)).get_span_context()
    if client.is_valid:
        span.add_link(client)


def _trace_context(scope: Scope) -> list[tuple[bytes, bytes]]:
    # Not `tracestate`, which is text of the client that each span would repeat, nor `baggage`. The
    # instrumentation fails to decode what is not ASCII.
    return [
        (name, value)
        for name, value in scope["headers"]
        if name == _CONTEXT_HEADER and value.isascii()
    ]
