"""Segment's API with the key in the body, and from web pages."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.requests import stored_rows
from tests.api.test_browser_events import PAGE, SECRET, store_page_key
from tests.api.test_keys import key_in
from tests.api.test_segment import basic
from tests.live_server import running
from tests.problems import assert_problem
from tests.servers import KEY

CALL = {"type": "track", "event": "x", "userId": "u"}
ELSEWHERE = "https://evil.example"
TEXT = "text/plain;charset=UTF-8"


@pytest.fixture
def pages(database_url: str, redis_url: str, conn: connection) -> Iterator[httpx.Client]:
    """A service that accepts events of pages; its client has no key."""
    store_page_key(conn)
    with running(database_url, redis_url, browser_events=True) as service:
        del service.headers["Authorization"]
        yield service


def send(
    service: httpx.Client,
    path: str = "t",
    key: str | None = None,
    media_type: str = TEXT,
    **headers: str,
) -> httpx.Response:
    """A call, or a batch of one, with the key in the body."""
    body: dict[str, Any] = {"batch": [CALL]} if path in ("b", "batch") else {**CALL}
    content = json.dumps(body | ({"writeKey": key} if key else {}))
    headers = {"Content-Type": media_type, **headers}
    return service.post(f"/v1/{path}", content=content, headers=headers)


@pytest.mark.parametrize("path", ["t", "track", "b", "batch"])
def test_the_key_may_be_in_the_body(service: httpx.Client, conn: connection, path: str) -> None:
    """Some versions of SDKs for servers send the key so."""
    del service.headers["Authorization"]
    for media_type in (TEXT, "application/json"):
        assert send(service, path, KEY, media_type).json() == {"accepted": 1, "duplicates": 0}
    assert len(stored_rows(conn)) == 2
    assert_problem(send(service, path), 401, "unauthorized")
    unknown = key_in("canary-unknown")
    assert_problem(send(service, path, unknown), 401, "unauthorized", payload="canary")
    assert_problem(send(service, path, "canary\ud800"), 401, "unauthorized", payload="canary")


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[]", b"7", b'{"writeKey": 7}', b'{"writeKey": null}', b"\xff"]
)
def test_a_body_without_a_key_is_refused(service: httpx.Client, body: bytes) -> None:
    del service.headers["Authorization"]
    answer = service.post("/v1/t", content=body, headers={"Content-Type": TEXT})
    assert_problem(answer, 401, "unauthorized")


def test_a_body_that_is_read_before_its_key_is_small(service: httpx.Client) -> None:
    body = json.dumps({"batch": [CALL], "writeKey": KEY, "more": "x" * 2**19})
    headers = {"Content-Type": "application/json"}
    assert service.post("/v1/batch", content=body, headers=headers).status_code == 200
    del service.headers["Authorization"]
    answer = service.post("/v1/batch", content=body, headers=headers)
    assert_problem(answer, 413, "too-large", "(body)")
    assert "`Authorization: Basic`" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("path", ["t", "b", "track"])
def test_a_page_sends_calls(pages: httpx.Client, conn: connection, path: str) -> None:
    """With the key in the body, or in a header after a preflight."""
    answer = send(pages, path, SECRET, Origin=PAGE)
    assert answer.json() == {"accepted": 1, "duplicates": 0}
    assert answer.headers["access-control-allow-origin"] == "*"
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-retry-count",
    }
    answer = pages.options(f"/v1/{path}", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert send(pages, path, Origin=PAGE, **basic(SECRET)).json()["accepted"] == 1
    assert len(stored_rows(conn)) == 2


def test_a_page_of_another_origin_is_refused(pages: httpx.Client, conn: connection) -> None:
    for answer in (
        send(pages, key=SECRET, Origin=ELSEWHERE),
        send(pages, key=SECRET),
        send(pages, Origin=ELSEWHERE, **basic(SECRET)),
    ):
        assert_problem(answer, 403, "forbidden", payload=SECRET)
    assert stored_rows(conn) == []


def test_a_key_without_origins_is_refused_from_pages(pages: httpx.Client, conn: connection) -> None:
    """Whoever finds it in a page could write from anywhere without a limit."""
    for answer in (
        send(pages, key=KEY, Origin=PAGE),
        send(pages, Origin=PAGE, **basic(KEY)),
    ):
        assert_problem(answer, 403, "forbidden")
        assert "must be limited to origins" in answer.json()["detail"]
    assert stored_rows(conn) == []


def test_pages_are_refused_by_default(service: httpx.Client, conn: connection) -> None:
    store_page_key(conn)
    del service.headers["Authorization"]
    answer = send(service, key=SECRET, Origin=PAGE)
    assert_problem(answer, 403, "forbidden", payload=SECRET)
    assert "ANALYTICS_BROWSER_EVENTS=true" in answer.json()["detail"]
    assert "access-control-allow-origin" not in answer.headers


def test_pages_of_origins_that_are_set_may_send_with_any_key(
    database_url: str, redis_url: str
) -> None:
    with running(database_url, redis_url, cors_origins=PAGE) as service:
        del service.headers["Authorization"]
        assert send(service, Origin=PAGE, **basic(KEY)).status_code == 200
        assert send(service, Origin=ELSEWHERE, **basic(KEY)).status_code == 403


def test_without_keys_no_page_may_write(
    database_url: str, redis_url: str, conn: connection
) -> None:
    """Plain text needs no preflight, so that any page could write."""
    conn.cursor().execute("truncate api_keys")
    with running(database_url, redis_url, browser_events=True) as service:
        del service.headers["Authorization"]
        assert send(service, Origin=ELSEWHERE).status_code == 401
        assert send(service).status_code == 401
    assert stored_rows(conn) == []
