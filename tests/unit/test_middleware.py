"""Middleware around every request: ids, errors, URLs, hosts, and HEAD."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from routes.middleware import RequestChecks, RequestContext


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": scope["method"].encode()})


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("secret value")


async def no_body() -> NoReturn:
    raise AssertionError("no request has a body")


def sent_by(
    middleware: ASGIApp, headers: dict[str, str] | None = None, **other: Any
) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of a response."""
    keys = SimpleNamespace(is_open=True)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "app": SimpleNamespace(state=SimpleNamespace(resources=SimpleNamespace(keys=keys))),
        "state": {},
    } | other
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await middleware(scope, no_body, send)

    asyncio.run(run())
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], fields, b"".join(message["body"] for message in sent[1:])


def test_a_response_has_the_id_of_its_request() -> None:
    _, headers, _ = sent_by(RequestContext(app), {"x-request-id": "my-id.1"})
    assert headers == {"x-request-id": "my-id.1", "x-content-type-options": "nosniff"}
    _, headers, _ = sent_by(RequestContext(app), {"x-request-id": "no id"})
    assert len(headers["x-request-id"]) == 32


def test_a_failure_is_a_500_without_its_message() -> None:
    status, _, body = sent_by(RequestContext(failing))
    assert status == 500
    assert json.loads(body)["status"] == 500
    assert b"secret" not in body


@pytest.mark.parametrize(("query", "status"), [(b"a=%C3%A9", 299), (b"a=%E9", 422), (b"a=b", 299)])
def test_urls_must_be_utf_8(query: bytes, status: int) -> None:
    assert sent_by(RequestChecks(app), query_string=query)[0] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 299), ("127.0.0.1", 299), ("[::1]:80", 299), ("example.com", 403)],
)
def test_without_keys_only_loopback_hosts_are_accepted(host: str, status: int) -> None:
    assert sent_by(RequestChecks(app), {"host": host})[0] == status


def test_head_is_get_without_a_body() -> None:
    assert sent_by(RequestChecks(app), method="HEAD") == (299, {}, b"")
    assert sent_by(RequestChecks(app), method="GET") == (299, {}, b"GET")
