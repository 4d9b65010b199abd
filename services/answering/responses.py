"""Render HTTP responses: the answer to a question, with 304 for a known ETag, and receipts."""

import time
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from common.errors import rate_limit_headers
from services.answering.answer_service import ServedResponse
from services.cache_service import CacheLookup, Limits
from services.ingest.ingest_service import IngestResult

_CACHE_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding"}


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
        "Age": str(_age_s(served)),
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


def _age_s(served: ServedResponse) -> int:
    return served.lookup.age_ms // 1000 if served.lookup and served.cache != "miss" else 0


def _timing(seconds: dict[str, float], total: float) -> str:
    return ", ".join(
        f"{name};dur={elapsed * 1000:.2f}" for name, elapsed in (*seconds.items(), ("total", total))
    )


def _rate_limit_headers(lookup: CacheLookup | None, limits: Limits) -> dict[str, str]:
    if lookup is None or not limits.per_second:
        return {}
    return rate_limit_headers(limits.per_second, lookup.remaining, lookup.wait_ms)
