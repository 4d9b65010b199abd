"""The OpenAPI document, rendered once by each worker."""

from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from routes.errors import Problem
from services.answering.question_request import has_etag


class _Document(NamedTuple):
    body: bytes
    etag: str


class Description:
    """Serves the OpenAPI document of an application."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._document: _Document | None = None

    async def __call__(self, request: Request) -> Response:
        """The document, or 304 if the client has it."""
        if self._document is None:  # takes as long as a hundred requests
            self._document = await run_in_threadpool(self._render)
        body, etag = self._document
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if has_etag(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    def _render(self) -> _Document:
        body = msgspec.json.encode(self._app.openapi())
        return _Document(body, f'"{blake2b(body, digest_size=12).hexdigest()}"')


def describe(app: FastAPI) -> None:
    """Add the schema of problems to the OpenAPI document, and serve it with an ETag."""
    generate, schemas = app.openapi, list[dict[str, Any]]()

    def openapi() -> dict[str, Any]:
        if not schemas:
            schema = generate()
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schema["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
            schemas.append(schema)
        return schemas[0]

    app.openapi = openapi  # type: ignore[method-assign]
    routes = app.router.routes
    (index,) = (n for n, each in enumerate(routes) if getattr(each, "path", "") == app.openapi_url)
    routes[index] = Route(app.openapi_url or "", Description(app).__call__, include_in_schema=False)
