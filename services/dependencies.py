"""What handlers ask for. All of it is async: a sync dependency would take a thread."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request, Response
from starlette.datastructures import Headers

from common.answers import Answer
from common.questions import Question
from config.database import Connection, get_connection
from repo.events import EventsRepo
from services.answer_service import AnswerService
from services.resources import Resources
from utils.exports import preferred_format

Q = TypeVar("Q", bound=Question)


async def get_resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


async def get_request_connection(
    resources: Annotated[Resources, Depends(get_resources)],
) -> Connection:
    return get_connection(resources.database, resources.request_timeout_s)


async def get_events_repo(
    connection: Annotated[Connection, Depends(get_request_connection)],
) -> EventsRepo:
    return EventsRepo(connection)


class Ask:
    """Answers a question in the form that the request wants."""

    def __init__(self, answers: AnswerService, connection: Connection, headers: Headers) -> None:
        self._answers = answers
        self._connection = connection
        self._headers = headers

    async def __call__(self, method: Callable[[Q], Answer[Any]], question: Q) -> Response:
        served = await self._answers.answer(
            self._connection,
            method,
            question,
            form=question.format or preferred_format(self._headers.get("accept", "")),
            fresh="no-cache" in self._headers.get("cache-control", ""),
        )
        headers = {"X-Cache": served.cache, "Cache-Control": "private, no-cache", "Vary": "Accept"}
        page = served.page
        return Response(page.body, media_type=page.media_type, headers=headers | page.headers)


async def get_ask(
    request: Request,
    resources: Annotated[Resources, Depends(get_resources)],
    connection: Annotated[Connection, Depends(get_request_connection)],
) -> Ask:
    return Ask(resources.answers, connection, request.headers)
