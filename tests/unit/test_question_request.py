"""Keys of requests in the cache of recent requests; conditional requests, and response headers."""

import time
from typing import NoReturn

import pytest

from services.answering.answer_service import ServedResponse
from services.answering.question_request import (
    RequestKey,
    accepts_gzip,
    has_etag,
    request_key,
    respond,
)
from services.cache_service import CacheLookup, Limits
from services.cached_response import CachedResponse, PreparedQuery

STORED = CachedResponse("k", "text/csv", {"X-Next-Cursor": "c"}, b"a\n1\n", 'W/"e"', 0.1, 60)
QUERY = PreparedQuery("q", "base", None, None, "", "csv", False, lambda _: no_answer())
LOOKUP = CacheLookup("hit", "", 9, 200, False, b"", 5_700, 60_000, 0, STORED)


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("*", False), ("br", False)],
)
def test_gzip_is_accepted_by_name(header: str, is_accepted: bool) -> None:
    assert accepts_gzip({"accept-encoding": header}) is is_accepted


def test_a_request_key_has_what_determines_the_response() -> None:
    scope = {"raw_path": b"/analytics/top-events", "query_string": b"last=7d"}
    headers = {"accept": "text/csv", "accept-encoding": "gzip"}
    key = RequestKey(b"/analytics/top-events", b"last=7d", "text/csv", True)
    assert request_key(scope, headers) == key
    assert request_key({**scope, "query_string": b"x" * 2_000}, headers) is None


def no_answer() -> NoReturn:
    raise AssertionError("a response is not computed twice")


@pytest.mark.parametrize(
    ("header", "is_listed"),
    [
        ('W/"e"', True),
        ('"e"', True),
        ('"d", "e"', True),
        ("*", True),
        ('"d"', False),
        (None, False),
    ],
)
def test_etags_are_compared_weakly(header: str | None, is_listed: bool) -> None:
    assert has_etag(header, 'W/"e"') is is_listed


def test_a_response_has_the_stored_body_and_headers() -> None:
    served = ServedResponse(QUERY, STORED, "hit", LOOKUP)
    response = respond(served, {}, Limits(), time.monotonic())
    headers = response.headers
    assert (response.status_code, response.body) == (200, b"a\n1\n")
    assert (headers["x-cache"], headers["age"], headers["etag"]) == ("hit", "5", 'W/"e"')
    assert (headers["content-type"], headers["content-length"]) == ("text/csv", "4")
    assert headers["x-next-cursor"] == "c"


def test_a_client_that_has_the_response_gets_304_without_body() -> None:
    served = ServedResponse(QUERY, STORED, "hit", LOOKUP)
    response = respond(served, {"if-none-match": '"e"'}, Limits(), time.monotonic())
    assert (response.status_code, response.body) == (304, b"")
    assert "content-type" not in response.headers
