"""What of HTTP concerns all answers: how requests look, and the headers of responses."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope

from common.errors import rate_limit_headers
from services.answer_service import AnswerService, Served
from services.cache_service import Found, Limits
from services.hang_up import unless_hung_up
from services.ingest.service import Stored
from services.pages import Asked
from services.single_flight import Visit

_LONGEST_REMEMBERED = 2_000  # bytes of a request
_SHARED = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding"}


class Looks(NamedTuple):
    """All of a request that its question comes from: what looks the same asks the same."""

    path: bytes
    query: bytes
    accept: str
    compressed: bool


class Known(NamedTuple):
    """A question that was asked before, and the route that it came by."""

    asked: Asked
    route: object


def looks(scope: Scope, headers: Mapping[str, str]) -> Looks | None:
    """None for a request that is too long to be remembered."""
    path, query = scope["raw_path"], scope["query_string"]
    accept = headers.get("accept", "")
    if len(path) + len(query) + len(accept) > _LONGEST_REMEMBERED:
        return None
    return Looks(path, query, accept, accepts_gzip(headers))


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether gzip is named and not refused; `*` alone does not ask for it."""
    for coding in headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0.") != "q="
    return False


def visit_of(headers: Mapping[str, str], limits: Limits, deadline: float) -> Visit:
    return Visit(limits, deadline, fresh="no-cache" in headers.get("cache-control", "").lower())


async def deliver(answers: AnswerService, asked: Asked, visit: Visit, receive: Receive) -> Served:
    """From the cache, else computed, for as long as the client waits.

    Raises: TooManyRequests, TooManyAtOnce, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
    ClientGone.
    """
    began = time.perf_counter()
    found = await answers.look_up(asked, visit)
    looked_at = time.perf_counter()
    served = answers.hit(asked, found) if found else None
    if served is None:
        served = await unless_hung_up(receive, answers.compute(asked, visit, found))
        served.seconds["answer"] = time.perf_counter() - looked_at
    served.seconds["cache"] = looked_at - began
    return served


class PageResponse(Response):
    """A response whose headers are bytes already."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in headers.items()
        ]


def respond(
    served: Served, headers: Mapping[str, str], limits: Limits, began: float
) -> PageResponse:
    """The page, or 304 where the client has it; `began` is the monotonic start of the request."""
    page = served.page
    told = {
        **_SHARED,
        "ETag": page.etag,
        "X-Cache": served.cache,
        "Age": str(served.age_s),
        "Server-Timing": _timing(served.seconds, time.monotonic() - began),
        **_limits(served.found, limits),
    }
    if has_etag(headers.get("if-none-match"), page.etag):
        return PageResponse(304, told, b"")
    told |= page.headers
    told["Content-Type"] = page.media_type
    told["Content-Length"] = str(len(page.body))
    return PageResponse(200, told, page.body)


def receipt(stored: Stored, found: Found | None, limits: Limits) -> PageResponse:
    """What was stored; `refused` is told where there were any."""
    counts = {"accepted": stored.accepted, "duplicates": stored.duplicates}
    body = msgspec.json.encode(counts | ({"refused": stored.refused} if stored.refused else {}))
    told = {
        "Cache-Control": "no-store",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    return PageResponse(200, told | _limits(found, limits), body)


def has_etag(if_none_match: str | None, etag: str) -> bool:
    """Compared weakly, as RFC 9110 wants it for If-None-Match."""
    if if_none_match is None:
        return False
    given = [tag.strip() for tag in if_none_match.split(",")]
    return "*" in given or any(tag.removeprefix("W/") == etag.removeprefix("W/") for tag in given)


def _timing(seconds: dict[str, float], total: float) -> str:
    return ", ".join(
        f"{name};dur={spent * 1000:.2f}" for name, spent in (*seconds.items(), ("total", total))
    )


def _limits(found: Found | None, limits: Limits) -> dict[str, str]:
    if found is None or not limits.per_second:
        return {}
    return rate_limit_headers(limits.per_second, found.left, found.wait_ms)
