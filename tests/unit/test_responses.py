"""Conditional requests, and the headers of responses."""

import time
from typing import NoReturn

import pytest

from services.answering.answer_service import ServedResponse
from services.answering.responses import has_etag, receipt, respond
from services.cache_service import CacheLookup, Limits
from services.cached_response import CachedResponse, PreparedQuery
from services.ingest.ingest_service import IngestResult

STORED = CachedResponse("k", "text/csv", {"X-Next-Cursor": "c"}, b"a\n1\n", 'W/"e"', 0.1, 60)
QUERY = PreparedQuery("q", "base", None, None, "", "csv", False, lambda _: no_answer())
LOOKUP = CacheLookup("hit", "", 9, 200, False, b"", 5_700, 60_000, 0, STORED)


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


def test_a_receipt_names_refused_events_if_there_are_any() -> None:
    stored, some = IngestResult(2, 1, 0), IngestResult(2, 1, 3)
    assert receipt(stored, None, Limits()).body == b'{"accepted":2,"duplicates":1}'
    assert receipt(some, None, Limits()).body == b'{"accepted":2,"duplicates":1,"refused":3}'
