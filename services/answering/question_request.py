"""A request with a question, from its headers to the HTTP response.

The fast path and the handlers use `QuestionRequest` and `services.auth.authorize` alone, so that a
check of one is a check of both.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope

from common.errors import rate_limit_headers
from common.query import Query
from common.questions.answer import Result
from common.questions.base import Question
from repo.events import EventsRepo
from services.answering.answer_service import ServedResponse
from services.answering.single_flight import BoundRepo, CallContext
from services.auth import Caller, authorize
from services.cache_service import Limits
from services.cached_response import PreparedQuery
from utils.formats import preferred_format

if TYPE_CHECKING:
    from services.container import Resources

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


class QuestionRequest:
    """A request with a question."""

    def __init__(self, scope: Scope, receive: Receive, resources: "Resources") -> None:
        self._scope = scope
        self._receive = receive
        self._resources = resources
        # The first value of a repeated header counts, as in Starlette.
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        }
        self._key = request_key(scope, self.headers)
        self._remembered: PreparedQuery | None = None

    async def answer_remembered(self) -> Response | None:
        """The response, if the same question was answered before; else None.

        Raises: what `authorize` and `answer` raise.
        """
        resources = self._resources
        remembered = resources.recent_requests.get(self._key) if self._key else None
        if remembered is None:
            return None
        query, self._scope["route"] = remembered
        self._remembered = query
        authorization = self.headers.get("authorization")
        caller = await authorize(self._scope, authorization, resources, "read")
        return await self._answer(query, caller)

    async def answer(
        self,
        question: Question,
        call: Callable[[EventsRepo], Result[Any]],
        caller: Caller,
        bound: BoundRepo,
    ) -> Response:
        """The response to a question of this caller; `call` answers it with the repo of `bound`.

        Raises: TooManyRequests, TooManyConcurrent, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
        ClientDisconnected.
        """
        accept = self.headers.get("accept")
        form = question.format or (preferred_format(accept) if accept else "json")
        query = self._resources.answers.prepare(
            question, form, call, compressed=accepts_gzip(self.headers)
        )
        return await self._answer(query, caller, bound)

    async def _answer(
        self,
        query: PreparedQuery,
        caller: Caller,
        bound: BoundRepo | None = None,
    ) -> Response:
        state = self._scope["state"]
        state["counted"] = True
        is_override = bound is not None and bound.is_override
        fresh = is_override or "no-cache" in self.headers.get("cache-control", "").lower()
        context = CallContext(caller.limits, caller.deadline, bound, fresh)
        served = await self._resources.answers.answer(query, context, self._receive)
        if served.cache == "hit":
            state["hit"] = True
        if not is_override and served.query is not self._remembered:
            self._remember(served.query)
        return respond(served, self.headers, caller.limits, state["began"])

    def _remember(self, query: PreparedQuery) -> None:
        if self._key:
            remembered = RememberedRequest(query, self._scope["route"])
            self._resources.recent_requests[self._key] = remembered


@dataclass(frozen=True, slots=True)
class QueryRunner:
    """Answers the question of a request with the repo that the handler was given."""

    request: QuestionRequest
    caller: Caller
    bound: BoundRepo

    async def __call__(self, method: Callable[[Any], Result[Any]], question: Question) -> Response:
        """The response to a question. `method` is a bound method of a repo.

        Raises: TooManyRequests, TooManyConcurrent, PoolBusy, DeadlineExceeded, DatabaseUnavailable,
        ClientDisconnected.
        """
        call = self._call(method, question.query)
        return await self.request.answer(question, call, self.caller, self.bound)

    def _call(
        self, method: Callable[[Any], Result[Any]], query: Query
    ) -> Callable[[EventsRepo], Result[Any]]:
        """The call of this method on any repo, or on the override alone."""
        if self.bound.is_override:
            return lambda _: method(query)
        return methodcaller(method.__name__, query)


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
    response, lookup = served.response, served.lookup
    age_s = lookup.age_ms // 1000 if lookup and served.cache != "miss" else 0
    response_headers = {
        **_CACHE_HEADERS,
        "ETag": response.etag,
        "X-Cache": served.cache,
        "Age": str(age_s),
        "Server-Timing": _timing(served.seconds, time.monotonic() - began),
    }
    if lookup and limits.per_second:
        response_headers |= rate_limit_headers(limits.per_second, lookup.remaining, lookup.wait_ms)
    if has_etag(headers.get("if-none-match"), response.etag):
        return BytesResponse(304, response_headers, b"")
    response_headers |= response.headers
    response_headers["Content-Type"] = response.media_type
    response_headers["Content-Length"] = str(len(response.body))
    return BytesResponse(200, response_headers, response.body)


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
