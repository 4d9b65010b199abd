"""Errors over HTTP: RFC 9457 problem details, which never contain values of the request."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from common.errors import (
    AnalyticsError,
    Fault,
    InvalidParameter,
    refused_parameter,
    translate_database_error,
)
from config.database_errors import DatabaseError
from config.logging import request_id

MEDIA_TYPE = "application/problem+json"

_METHODS = ("GET", "POST", "DELETE")
_MESSAGES = {
    "missing": "is required",
    "too_short": "must be given at least {min_length} times",
    "too_long": "must be given at most {max_length} times",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "literal_error": "must be {expected}",
}
"""The values that are allowed, by the type of an error; pydantic speaks of Python's types."""

_DETAILS = {
    404: "There is no resource at this path; /docs lists all paths.",
    405: "The path does not support this method; the Allow header lists the methods that it does.",
}


class FaultText(BaseModel):
    parameter: str = Field(
        description="The name of the invalid parameter, or of the invalid field of an event."
    )
    message: str = Field(description="What is allowed.")
    index: int = Field(
        default=0, description="For events that were sent, the index of the invalid one, from 0."
    )


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="The kind of the problem, as a stable URN.")
    title: str
    status: int
    detail: str
    request_id: str = Field(description="As in the `X-Request-Id` header and in the logs.")
    horizon: str = Field(
        default="", description="Only with 409: events before this time were dropped."
    )
    progress: str = Field(
        default="",
        description="Only with `columns-building`: the share of events that are in columns, from "
        "0 to 1.",
    )
    errors: list[FaultText] = Field(default=[], description="One entry for each invalid parameter.")


def _response_schema(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: _response_schema(status)
    for status in (400, 401, 403, 409, 422, 429, 500, 503, 504, 507)
}
PROBLEMS_OF_BODIES = PROBLEMS | {status: _response_schema(status) for status in (408, 413, 415)}


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Response:
    """The response for an error."""
    body: dict[str, Any] = {
        "type": f"urn:analytics-service:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id.get(),
        **(extra or {}),
    }
    if faults:
        body["errors"] = faults
    return Response(msgspec.json.encode(body), status, dict(headers or {}), MEDIA_TYPE)


def analytics_problem(error: AnalyticsError) -> Response:
    return problem(
        error.status,
        error.kind,
        error.title,
        str(error),
        faults=error.faults,
        headers=error.headers,
        extra=error.extra_members,
    )


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(AnalyticsError, _on_analytics_error)
    app.add_exception_handler(DatabaseError, _on_database_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_analytics_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnalyticsError)
    return analytics_problem(error)


async def _on_database_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, DatabaseError)
    return analytics_problem(translate_database_error(error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return analytics_problem(
        InvalidParameter(faults=[_fault_of(detail) for detail in error.errors()])
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The problem for errors of the router: unknown path or method."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = _DETAILS.get(error.status_code, phrase)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = _allowed_methods(request, headers["Allow"])
    kind = phrase.lower().replace(" ", "-")
    return problem(error.status_code, kind, phrase, detail, headers=headers)


def _allowed_methods(request: Request, allowed: str) -> str:
    """The methods of a path, of which the router names those of the first route only."""
    methods = {method for method in _METHODS if _has_route(request, method)}
    if request.method in methods:  # refused by the route itself
        methods = set(allowed.split(", "))
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _has_route(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)


def _fault_of(error: Mapping[str, Any]) -> Fault:
    """The parameter and what is allowed. Pydantic's input values are left out on purpose."""
    parameter = refused_parameter(error["type"]) or str(error["loc"][1])
    template = _MESSAGES.get(error["type"])
    if template is not None:
        return Fault(parameter, template.format(**error.get("ctx", {})))
    return Fault(parameter, error["msg"].removeprefix("Value error, "))
