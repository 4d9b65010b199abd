"""Answer repeated requests before routing and validation.

A cache hit takes one round trip to Redis, no thread and no database connection. Requests that are
not in the cache of recent requests, or are unusual in any way, go through the router.
"""

from collections.abc import Mapping
from functools import partial

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import AnalyticsError, translate_database_error
from config.database_errors import DatabaseError
from routes.errors import analytics_problem
from services.answering.answer_service import bind_repo
from services.answering.responses import asks_for_fresh, deliver, request_key, respond
from services.answering.single_flight import CallContext
from services.cached_response import PreparedQuery
from services.container import Resources

_PREFIX = "/analytics/"


class FastPath:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = None
        if scope["type"] == "http" and _is_question(scope) and not _is_overridden(scope):
            response = await _answer(scope, receive)
        await (response or self._app)(scope, receive, send)


def _is_question(scope: Scope) -> bool:
    return scope["method"] == "GET" and bool(scope["path"].startswith(_PREFIX))


def _is_overridden(scope: Scope) -> bool:
    """Whether a dependency of the handlers is overridden, which this path would not call."""
    return bool(scope["app"].dependency_overrides)


def _decode_headers(scope: Scope) -> dict[str, str]:
    """Headers by name; of a repeated header the first value, as in Starlette."""
    raw_headers = reversed(scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw_headers}


async def _answer(scope: Scope, receive: Receive) -> Response | None:
    """The response, or None if the router must handle it. Raises: ClientDisconnected."""
    resources: Resources = scope["app"].state.resources
    headers = _decode_headers(scope)
    lru_key = request_key(scope, headers)
    remembered = resources.recent_requests.get(lru_key) if lru_key else None
    if remembered is None:
        return None
    scope["route"] = remembered.route
    try:
        return await _serve(scope, receive, resources, headers, remembered.query)
    except AnalyticsError as error:
        return analytics_problem(error)
    except DatabaseError as error:
        return analytics_problem(translate_database_error(error))


async def _serve(
    scope: Scope,
    receive: Receive,
    resources: Resources,
    headers: Mapping[str, str],
    query: PreparedQuery,
) -> Response | None:
    key = resources.keys.check_cached(headers.get("authorization"), "read")
    if key is None and not resources.keys.is_open:
        return None
    state = scope["state"]
    state["authorized"] = state["counted"] = True
    state["key"] = key
    began, limits = state["began"], resources.limits_of(key)
    deadline = began + resources.request_s
    bind = partial(bind_repo, resources.database, deadline, limits.caller)
    context = CallContext(limits, deadline, bind, asks_for_fresh(headers))
    served = await deliver(resources.answers, resources.answers.current(query), context, receive)
    if served.cache == "hit":
        state["hit"] = True
    return respond(served, headers, limits, began)
