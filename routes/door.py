"""All that stands between a request and its handler."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from common.metrics import requests
from routes import analytics, events, health, metrics, users
from routes.errors import Problem, add_error_handlers
from routes.hot_path import HotPath
from routes.middleware import HeadAsGet, OwnName, ReadableUrl, RequestContext

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
        "X-Next-Cursor",
        "X-Previous-Cursor",
        "X-Previous-Events",
        "X-Previous-Users",
        "X-Request-Id",
    ],
    "max_age": 3600,
}


def open_door(app: FastAPI, origins: list[str]) -> None:
    """Give the application its routes, errors, middleware and description.

    Pages of `origins` may ask from browsers.
    """
    for room in (analytics, users, events, health, metrics):
        app.include_router(room.router)
    _count_failures_from_zero()
    add_error_handlers(app)
    for middleware in (HotPath, HeadAsGet, ReadableUrl, OwnName):  # the last is outermost
        app.add_middleware(middleware)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, **_CORS)
    app.add_middleware(RequestContext)
    _describe_problems(app)


def _count_failures_from_zero() -> None:
    """A series that begins with its first failure looks as if there was none."""
    for room in (analytics, users, events):
        for route in room.router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods or ():
                for status in (500, 503, 504):
                    requests(method, route.path, status)


def _describe_problems(app: FastAPI) -> None:
    """Put the schema that all errors refer to into the API's description."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
