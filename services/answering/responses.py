"""HTTP responses: keys of requests, conditional requests, and the headers of responses."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope

from common.errors import rate_limit_headers
from services.answering.answer_service import AnswerService, ServedResponse
from services.answering.single_flight import CallContext
from services.cache_service import CacheLookup, Limits
from services.cached_response import PreparedQuery
from services.disconnect import cancel_on_disconnect
from services.ingest.ingest_service import IngestResult

_MAX_REMEMBERED_BYTES = 2_000  # of path, query string and Accept header
_CACHE_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding"}


class RequestKey(NamedTuple):
    """The parts of a request that determine its question and the form of the response."""

    path: bytes
    query: bytes
    accept: str
    compressed: bool


class RememberedRequest(NamedTuple):
    """The prepared query of an earlier request, and the route that handled it."""

    query: PreparedQuery
    route: object


def request_key(scope: Scope, headers: Mapping[str, str]) -> RequestKey | None:
    """The key of a request in the LRU cache; None if the request is too long for it."""
    path, query = scope["raw_path"], scope["query_string"]
    accept = headers.get("accept", "")
    if len(path) + len(query) + len(accept) > _MAX_REMEMBERED_BYTES:
        return None
    return RequestKey(path, query, accept, accepts_gzip(headers))


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether `Accept-Encoding` names gzip, with a weight above 0; `*` alone does not count."""
    for coding in headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0.") != "q="
    return False


def asks_for_fresh(headers: Mapping[str, str]) -> bool:
    """Whether `Cache-Control: no-cache` skips the cache."""
    return "no-cache" in headers.get("cache-control", "").lower()


async def deliver(
    answers: AnswerService, query: PreparedQuery, context: CallContext, receive: Receive
) -> ServedResponse:
    """The response to a question, cached or computed; cancelled when the client disconnects.

    Raises: TooManyRequests, TooManyConcurrent, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
    ClientDisconnected.
    """
    began = time.perf_counter()
    lookup = await answers.look_up(query, context)
    looked_up_at = time.perf_counter()
    served = answers.hit(query, lookup) if lookup else None
    if served is None:
        served = await cancel_on_disconnect(receive, answers.compute(query, context, lookup))
        served.seconds["answer"] = time.perf_counter() - looked_up_at
    served.seconds["cache"] = looked_up_at - began
    return served


class BytesResponse(Response):
    """A response with exactly these headers and this body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        # Not Starlette's constructor, which would encode the body and add headers of its own.
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in headers.items()
        ]


def respond(
    served: ServedResponse, headers: Mapping[str, str], limits: Limits, began: float
) -> BytesResponse:
    """The HTTP response: 200, or 304 if the client has this ETag.

    `began` is the start of the request in monotonic time.
    """
    response = served.response
    response_headers = {
        **_CACHE_HEADERS,
        "ETag": response.etag,
        "X-Cache": served.cache,
        "Age": str(served.age_s),
        "Server-Timing": _timing(served.seconds, time.monotonic() - began),
        **_rate_limit_headers(served.lookup, limits),
    }
    if has_etag(headers.get("if-none-match"), response.etag):
        return BytesResponse(304, response_headers, b"")
    response_headers |= response.headers
    response_headers["Content-Type"] = response.media_type
    response_headers["Content-Length"] = str(len(response.body))
    return BytesResponse(200, response_headers, response.body)


def receipt(result: IngestResult, lookup: CacheLookup | None, limits: Limits) -> BytesResponse:
    """The response to a request that stored events; `refused` is only there if it is not 0."""
    counts = {"accepted": result.accepted, "duplicates": result.duplicates}
    body = msgspec.json.encode(counts | ({"refused": result.refused} if result.refused else {}))
    response_headers = {
        "Cache-Control": "no-store",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    return BytesResponse(200, response_headers | _rate_limit_headers(lookup, limits), body)


def has_etag(if_none_match: str | None, etag: str) -> bool:
    """Whether `If-None-Match` lists this ETag, by weak comparison (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    tags = [tag.strip() for tag in if_none_match.split(",")]
    return "*" in tags or any(tag.removeprefix("W/") == etag.removeprefix("W/") for tag in tags)


def _timing(seconds: dict[str, float], total: float) -> str:
    return ", ".join(
        f"{name};dur={elapsed * 1000:.2f}" for name, elapsed in (*seconds.items(), ("total", total))
    )


def _rate_limit_headers(lookup: CacheLookup | None, limits: Limits) -> dict[str, str]:
    if lookup is None or not limits.per_second:
        return {}
    return rate_limit_headers(limits.per_second, lookup.remaining, lookup.wait_ms)
