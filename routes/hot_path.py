"""Questions that were asked before and are in the cache: answered before anything else is done.

A hit takes one round trip to Redis, no thread and no connection, and neither the router nor the
question is looked at again. Whatever is not as usual goes the ordinary way.
"""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import AnalyticsError
from repo.api_keys import ApiKey
from routes.errors import analytics_problem
from services.delivery import Known, look, looks, respond, visit_of
from services.resources import Resources

_PREFIX = "/analytics/"


class HotPath:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = None
        if scope["type"] == "http" and _is_question(scope):
            response = await _answered(scope)
        await (response or self._app)(scope, receive, send)


def _is_question(scope: Scope) -> bool:
    return scope["method"] == "GET" and bool(scope["path"].startswith(_PREFIX))


def _as_text(scope: Scope) -> dict[str, str]:
    """Of headers that come twice the first counts, as in Starlette's."""
    given = reversed(scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in given}


async def _answered(scope: Scope) -> Response | None:
    """The response, or None for the ordinary way."""
    resources: Resources = scope["app"].state.resources
    headers = _as_text(scope)
    seen = looks(scope, headers)
    known = resources.memory.get(seen) if seen else None
    if known is None:
        return None
    try:
        key = resources.keys.known(headers.get("authorization"), "read")
        if key is None and not resources.keys.is_open:
            return None
        return await _hit(scope, headers, resources, known, key)
    except AnalyticsError as error:
        scope["route"] = known.route
        return analytics_problem(error)


async def _hit(
    scope: Scope, headers: Mapping[str, str], resources: Resources, known: Known, key: ApiKey | None
) -> Response | None:
    """Raises: TooManyRequests, TooManyAtOnce."""
    began = scope["state"]["began"]
    limits = resources.limits_of(key)
    visit = visit_of(headers, limits, began + resources.request_s)
    asked = resources.answers.current(known.asked)
    looked = await look(resources.answers, asked.key, visit)
    served = resources.answers.hit(asked, looked.found) if looked.found else None
    if served is None:
        scope["state"] |= {"looked": looked, "reader": key}  # neither is done a second time
        return None
    served.seconds["cache"] = looked.seconds
    scope["state"]["hit"] = True
    scope["route"] = known.route
    return respond(served, headers, limits, began)
