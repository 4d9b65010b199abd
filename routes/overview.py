"""The content of `GET /`: the questions, the state of the service, and links."""

from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from services.container import Resources
from utils.version import version

READY_WITHIN_S = 1.0

_QUESTIONS_TAG = "analytics"
_EXAMPLES: dict[str, str | list[str]] = {
    "user_id": "user_000001",
    "last": "30d",
    "interval": "day",
    "limit": "10",
    "of": "amount",
    "property": "amount",
    "step": ["product_view", "purchase"],
}
"""Example values that work with the demo events, and with any others."""


class QuestionLink(BaseModel):
    """A question, and a URL that answers it."""

    title: str
    description: str
    path: str = Field(description="The path, with its parameters in braces.")
    example: str = Field(description="A path and a query string that can be called as they are.")


class Links(BaseModel):
    """Pages beside the questions."""

    docs: str = "/docs"
    openapi: str = "/openapi.json"
    ready: str = "/readyz"
    health: str = "/healthz"
    metrics: str = "/metrics"


class Overview(BaseModel):
    """The response of `GET /`."""

    service: str
    version: str
    status: Literal["ready", "not ready"]
    checks: dict[str, str] = Field(description="As in `/readyz`; `ok` for what works.")
    needs_key: bool = Field(description="Whether questions need an API key.")
    metrics_access: Literal["open", "token", "closed"] = Field(
        description="Whether `/metrics` is open, needs ANALYTICS_METRICS_TOKEN, or is closed until "
        "that is set."
    )
    questions: list[QuestionLink]
    links: Links


async def overview_of(app: FastAPI, resources: Resources) -> Overview:
    """The overview as of now, within a second also if PostgreSQL does not answer."""
    checks = await resources.readiness.checks_within(READY_WITHIN_S)
    description = await run_in_threadpool(app.openapi)
    return Overview(
        service=app.title,
        version=version(),
        status="ready" if checks["database"] == "ok" else "not ready",
        checks=checks,
        needs_key=not resources.keys.is_open,
        metrics_access=_metrics_access(resources),
        questions=list(question_links(description)),
        links=Links(),
    )


def question_links(description: dict[str, Any]) -> Iterator[QuestionLink]:
    """A link for each question in an OpenAPI description, in its order."""
    for path, operations in description["paths"].items():
        operation = operations.get("get")
        if operation is not None and _QUESTIONS_TAG in operation.get("tags", ()):
            yield QuestionLink(
                title=operation["summary"].capitalize(),
                description=operation["description"] + _hint(operation["parameters"]),
                path=path,
                example=_example(path, operation["parameters"]),
            )


def _example(path: str, parameters: list[dict[str, Any]]) -> str:
    """An example URL; for a question about one user it has no range."""
    about_one = any(each["in"] == "path" for each in parameters)
    query: dict[str, Any] = {}
    for parameter in parameters:
        name, value = parameter["name"], _value(parameter)
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        elif parameter["required"] or (name in _EXAMPLES and not (about_one and name == "last")):
            query[name] = value
    return f"{path}?{urlencode(query, doseq=True)}" if query else path


def _hint(parameters: list[dict[str, Any]]) -> str:
    """A sentence that says which part of the example to replace."""
    replaced = [each for each in parameters if each["in"] == "path"]
    return "".join(
        f" Replace `{_value(each)}` by a `{each['name']}` of yours." for each in replaced
    )


def _value(parameter: dict[str, Any]) -> Any:
    """The example value of a parameter, else the first example of its schema."""
    examples = parameter["schema"].get("examples") or [""]
    return _EXAMPLES.get(parameter["name"], examples[0])


def _metrics_access(resources: Resources) -> Literal["open", "token", "closed"]:
    if resources.metrics_token is not None:
        return "token"
    return "open" if resources.keys.is_open else "closed"
