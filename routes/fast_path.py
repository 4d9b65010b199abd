"""Answer repeated requests before routing and validation.

A cache hit takes one round trip to Redis, no thread and no database connection. Requests that are
not in the cache of recent requests go through the router.
"""

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import AnalyticsError, translate_database_error
from config.database_errors import DatabaseError
from routes.errors import analytics_problem
from services.answering.question_request import QuestionRequest

_PREFIX = "/analytics/"


class FastPath:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await _answer(scope, receive) if _may_be_remembered(scope) else None
        await (response or self._app)(scope, receive, send)


def _may_be_remembered(scope: Scope) -> bool:
    # An overridden dependency would not be called here.
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and scope["path"].startswith(_PREFIX)
        and not scope["app"].dependency_overrides
    )


async def _answer(scope: Scope, receive: Receive) -> Response | None:
    """The response, or None if the router must handle the request. Raises: ClientDisconnected."""
    try:
        request = QuestionRequest(scope, receive, scope["app"].state.resources)
        scope["state"]["question"] = request  # the handler continues with it
        return await request.answer_remembered()
    except AnalyticsError as error:
        return analytics_problem(error)
    except DatabaseError as error:
        return analytics_problem(translate_database_error(error))
