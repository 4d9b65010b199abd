"""Which requests are answered before routing, and which go to the router."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cachetools import LRUCache
from starlette.types import Message, Receive, Scope, Send

from common.errors import Forbidden, InvalidKey
from routes.middleware import FastPath
from services.answering.question_request import RememberedRequest, RequestKey
from services.cached_response import PreparedQuery

QUERY = cast(PreparedQuery, object())
ROUTED = 299


class Keys:
    """API keys: all that are known lack the scope."""

    async def check(self, authorization: str | None, scope: str, deadline: float) -> None:
        assert (scope, deadline) == ("read", 12.0)
        raise Forbidden("read") if authorization == "Bearer known" else InvalidKey


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": ROUTED, "headers": []})


def status_of(
    path: str = "/analytics/top",
    method: str = "GET",
    authorization: str = "",
    overrides: dict[Any, Any] | None = None,
) -> int:
    requests = LRUCache[RequestKey, RememberedRequest](9)
    requests[RequestKey(b"/analytics/top", b"", "", False)] = RememberedRequest(QUERY, "route")
    resources = SimpleNamespace(recent_requests=requests, keys=Keys(), request_s=10.0)
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", authorization.encode())],
        "app": SimpleNamespace(
            state=SimpleNamespace(resources=resources), dependency_overrides=overrides or {}
        ),
        "state": {"began": 2.0},
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("no request has a body")

    asyncio.run(FastPath(router)(scope, receive, send))
    return int(sent[0]["status"])


def test_a_remembered_request_is_answered_before_routing() -> None:
    assert status_of(authorization="Bearer known") == 403


@pytest.mark.parametrize(
    ("path", "method"),
    [("/analytics/other", "GET"), ("/analytics/top", "POST"), ("/health", "GET")],
)
def test_other_requests_go_to_the_router(path: str, method: str) -> None:
    assert status_of(path, method, "Bearer known") == ROUTED


def test_no_request_is_answered_before_routing_while_a_dependency_is_overridden() -> None:
    assert status_of(authorization="Bearer known", overrides={"get_events_repo": dict}) == ROUTED


def test_the_key_of_a_remembered_request_is_checked() -> None:
    assert status_of(authorization="Bearer new") == 401
