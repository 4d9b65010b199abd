"""Configure the application: routers, error handlers and middleware."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from common.metrics import requests
from common.questions import QUESTIONS
from config.settings import Settings
from routes import analytics, events, health, metrics, root, segment, users
from routes.errors import add_error_handlers
from routes.middleware import FastPath, RequestChecks, RequestContext
from routes.openapi import describe

_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "HEAD", "POST"],
    "allow_headers": [
        "Authorization",
        "Cache-Control",
        "Content-Encoding",
        "Content-Type",
        "If-None-Match",
        "X-Request-Id",
    ],
    "expose_headers": [
        "Age",
        "ETag",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "Server-Timing",
        "X-Cache",
        "X-Request-Id",
        *(header for question in QUESTIONS for header in question.response_headers),
    ],
    "max_age": 3600,
}


# `AnonymousId` and `X-Retry-Count` are headers of SDKs.
_CORS_OF_PAGES: dict[str, Any] = {
    "allow_origins": ["*"],
    "allow_methods": ["POST"],
    "allow_headers": [
        "AnonymousId",
        "Authorization",
        "Content-Encoding",
        "Content-Type",
        "X-Retry-Count",
    ],
    "expose_headers": ["RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"],
    "max_age": 3600,
}


class _BrowserCors:
    """Lets pages of any origin send events: the key decides which may."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cors = CORSMiddleware(app, **_CORS_OF_PAGES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_of_pages = scope["type"] == "http" and scope["path"] in _PATHS_OF_PAGES
        await (self._cors if is_of_pages else self._app)(scope, receive, send)


_PATHS_OF_PAGES = {events.BROWSER_PATH, *segment.PATHS}


def configure_app(app: FastAPI, settings: Settings) -> None:
    """Add routes, error handlers, middleware and the OpenAPI description.

    Browsers may call the API from pages of `settings.origins` (CORS).
    """
    for module in (root, analytics, users, events, segment, health, metrics):
        app.include_router(module.router)
    _count_failures_from_zero()
    add_error_handlers(app)
    # The middleware that is added last is the outermost.
    app.add_middleware(FastPath)
    app.add_middleware(RequestChecks)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, **_CORS)
    if settings.browser_events:
        app.add_middleware(_BrowserCors)
    app.add_middleware(RequestContext)
    describe(app)


def _count_failures_from_zero() -> None:
    # Prometheus computes an increase from the second sample on: without a zero, the first failure
    # of a route would not show.
    for module in (analytics, users, events, segment):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods or ():
                for status in (500, 503, 504):
                    requests(method, route.path, status)
