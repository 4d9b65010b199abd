"""Questions that were asked before: neither the router nor the question is looked at again.

A hit takes one round trip to Redis, no thread and no connection. Whatever is not as usual goes the
ordinary way.
"""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import AnalyticsError, translate
from config.failures import DatabaseError
from routes.errors import analytics_problem
from services.delivery import deliver, looks, respond, visit_of
from services.pages import Asked
from services.resources import Resources

_PREFIX = "/analytics/"


class HotPath:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = None
        if scope["type"] == "http" and _is_question(scope):
            response = await _answered(scope, receive)
        await (response or self._app)(scope, receive, send)


def _is_question(scope: Scope) -> bool:
    return scope["method"] == "GET" and bool(scope["path"].startswith(_PREFIX))


def _as_text(scope: Scope) -> dict[str, str]:
    """Of headers that come twice the first counts, as in Starlette's."""
    given = reversed(scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in given}


async def _answered(scope: Scope, receive: Receive) -> Response | None:
    """The response, or None for the ordinary way. Raises: ClientGone."""
    resources: Resources = scope["app"].state.resources
    headers = _as_text(scope)
    seen = looks(scope, headers)
    known = resources.memory.get(seen) if seen else None
    if known is None:
        return None
    scope["route"] = known.route
    try:
        return await _served(scope, receive, resources, headers, known.asked)
    except AnalyticsError as error:
        return analytics_problem(error)
    except DatabaseError as error:
        return analytics_problem(translate(error))


async def _served(
    scope: Scope, receive: Receive, resources: Resources, headers: Mapping[str, str], asked: Asked
) -> Response | None:
    key = resources.keys.known(headers.get("authorization"), "read")
    if key is None and not resources.keys.is_open:
        return None
    state = scope["state"]
    state["authorized"] = state["counted"] = True
    state["key"] = key
    began, limits = state["began"], resources.limits_of(key)
    visit = visit_of(headers, limits, began + resources.request_s)
    served = await deliver(resources.answers, resources.answers.current(asked), visit, receive)
    if served.cache == "hit":
        state["hit"] = True
    return respond(served, headers, limits, began)
