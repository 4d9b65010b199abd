"""All that stands between a request and its handler."""

from typing import Any

from fastapi import FastAPI

from routes import analytics, health, metrics
from routes.errors import Problem, add_error_handlers
from routes.middleware import HeadAsGet, ReadableUrl, RequestContext


def open_door(app: FastAPI) -> None:
    """Give the application its routes, errors, middleware and description."""
    for room in (analytics, health, metrics):
        app.include_router(room.router)
    add_error_handlers(app)
    for middleware in (HeadAsGet, ReadableUrl, RequestContext):  # the last is outermost
        app.add_middleware(middleware)
    _describe_problems(app)


def _describe_problems(app: FastAPI) -> None:
    """Put the schema that all errors refer to into the API's description."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
