"""The checks of a request with a question are equal on the fast path and in the router."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from psycopg2.extensions import connection

from main import create_app
from routes import analytics
from routes.middleware import FastPath
from services.answering.question_request import QueryRunner, QuestionRequest
from tests.api.test_keys import add_key, guess
from tests.live_server import AUTHORIZED, app_of, running
from tests.problems import assert_problem

COUNTS = "/analytics/event-counts?start=2025-03-10&end=2025-03-12"
FRESH = {"Cache-Control": "no-cache"}
RATE = 3
# What the dependencies of a question do. Each is done by the fast path too, or depends only on what
# requests must have in common to be answered by it: path, query string and Accept.
KNOWN_DEPENDENCIES = {
    "get_caller",  # `authorize`
    "HTTPBearer",  # only describes
    "refuse_repeated.<locals>.check",  # the query string
    "_property_values",  # the path and the query string
    "_user_events",  # the path and the query string
    "_user_profile",  # the path and the query string
    "get_resources",
    "get_bound_repo",
    "get_events_repo",
    "get_query_runner",
}


class Paths:
    """A service whose routed requests are counted."""

    def __init__(self, service: httpx.Client) -> None:
        self.service = service
        self.routed = 0

    def get(self, *, by_router: bool, headers: dict[str, str]) -> httpx.Response:
        """The response to COUNTS, through the router or by the fast path."""
        requests = app_of(self.service).state.resources.recent_requests
        if by_router:
            requests.clear()
        assert bool(requests) is not by_router
        client = httpx.Client(base_url=self.service.base_url, timeout=30)
        with client:
            return client.get(COUNTS, headers=headers)


@pytest.fixture
def paths(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Paths]]:
    """Start a service with these settings, in which COUNTS is a remembered request."""
    opened = []

    def start(**settings: Any) -> Paths:
        opened.append(context := running(database_url, redis_url, **settings))
        paths = Paths(context.__enter__())
        answer = QueryRunner.__call__

        async def count(self: QueryRunner, *arguments: Any) -> Any:
            paths.routed += 1
            return await answer(self, *arguments)

        monkeypatch.setattr(QueryRunner, "__call__", count)
        assert paths.get(by_router=True, headers=AUTHORIZED).status_code == 200
        return paths

    yield start
    for context in opened:
        context.__exit__(None, None, None)


def on_both(paths: Paths, headers: dict[str, str], status: int, kind: str) -> None:
    """Send a request through the router, and by the fast path."""
    for by_router in (False, True):
        assert_problem(paths.get(by_router=by_router, headers=headers), status, kind)


def test_a_question_is_answered_by_both(paths: Callable[..., Paths]) -> None:
    both = paths()
    responses = [both.get(by_router=by_router, headers=AUTHORIZED) for by_router in (False, True)]
    assert both.routed == 2  # of three, with the first
    assert responses[0].content == responses[1].content
    assert responses[0].headers.keys() == responses[1].headers.keys()
    assert {response.headers["X-Cache"] for response in responses} == {"hit"}


def test_no_cache_is_heeded_by_both(paths: Callable[..., Paths]) -> None:
    both = paths()
    for by_router in (False, True):
        response = both.get(by_router=by_router, headers=AUTHORIZED | FRESH)
        assert (response.status_code, response.headers["X-Cache"]) == (200, "miss")


@pytest.mark.parametrize("headers", [{}, guess(1), {"Authorization": "Basic x"}])
def test_a_key_is_required_by_both(paths: Callable[..., Paths], headers: dict[str, str]) -> None:
    on_both(paths(), headers, 401, "unauthorized")


def test_the_scope_is_required_by_both(paths: Callable[..., Paths], conn: connection) -> None:
    on_both(paths(), add_key(conn, "writer", "write"), 403, "forbidden")


def test_two_keys_are_refused_by_both(paths: Callable[..., Paths]) -> None:
    twice = {"Authorization": f"{AUTHORIZED['Authorization']}, Bearer other"}
    on_both(paths(), twice, 400, "ambiguous-key")


def test_a_foreign_host_is_refused_by_both(paths: Callable[..., Paths]) -> None:
    both = paths()
    app_of(both.service).state.resources.keys.is_open = True
    on_both(both, {"Host": "evil.example"}, 403, "forbidden")


@pytest.mark.parametrize("by_router", [False, True])
def test_the_rate_is_limited_by_both(paths: Callable[..., Paths], by_router: bool) -> None:
    both = paths(rate_limit=RATE)
    # The first request counts as well. A second may pass within the loop.
    answers = [both.get(by_router=by_router, headers=AUTHORIZED) for _ in range(3 * RATE)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    assert_problem(refused[0], 429, "too-many-requests")
    assert refused[0].headers["RateLimit-Policy"] == f'"second";q={RATE};w=1'


def test_concurrent_questions_are_limited_by_both(
    paths: Callable[..., Paths], redis_url: str
) -> None:
    both = paths(concurrency_limit=1)
    resources = app_of(both.service).state.resources
    (key,) = {key.key_id for key in resources.keys._keys.values()}
    slots = f"analytics:limit:{resources.identity.value}:{key}:slots"
    with redis.Redis.from_url(redis_url) as client:
        seconds, _ = client.time()
        client.zadd(slots, {"another request": (seconds + 5) * 1000})
        on_both(both, AUTHORIZED | FRESH, 429, "too-many-at-once")
        client.delete(slots)


def test_the_deadline_is_the_same_on_both(
    paths: Callable[..., Paths], database_url: str, conn: connection
) -> None:
    both = paths(request_timeout_s=0.5)
    with conn.cursor() as cur:
        cur.execute("begin; lock table fold_state in access exclusive mode")
        on_both(both, AUTHORIZED | FRESH, 504, "too-slow")
        cur.execute("rollback")


def _dependencies(dependant: Dependant) -> Iterator[str]:
    for inner in dependant.dependencies:
        call = inner.call
        yield getattr(call, "__qualname__", type(call).__name__).removeprefix(
            "_require_scope.<locals>."
        )
        yield from _dependencies(inner)


@pytest.mark.parametrize("route", analytics.router.routes, ids=lambda route: route.name)
def test_no_handler_has_a_check_that_the_fast_path_lacks(route: APIRoute) -> None:
    """A new check belongs into `authorize` or `QuestionRequest.answer`."""
    assert set(_dependencies(route.dependant)) <= KNOWN_DEPENDENCIES


def test_the_fast_path_has_no_check_that_handlers_lack() -> None:
    for code in (FastPath, QuestionRequest.answer_remembered):
        assert "raise " not in inspect.getsource(code)


def test_all_middleware_is_around_both() -> None:
    innermost: object = create_app().user_middleware[-1].cls
    assert innermost is FastPath
