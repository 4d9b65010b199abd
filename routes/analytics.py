"""GET /analytics/...: the questions. Each handler is a signature and one call."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from common.parameters import Parameters, PropertyName, UserId
from common.questions.active_users import ActiveUsers
from common.questions.answer import Answer, PlanData, Result
from common.questions.base import Counting, ListsUsers, Question
from common.questions.breakdown import Breakdown
from common.questions.event_counts import EventCounts
from common.questions.event_names import EventNames
from common.questions.funnel import Funnel
from common.questions.lifecycle import Lifecycle
from common.questions.numbers import Numbers
from common.questions.properties import Properties
from common.questions.property_values import PropertyValues, PropertyValuesParameters
from common.questions.retention import Retention
from common.questions.stickiness import Stickiness
from common.questions.top_events import TopEvents
from common.questions.user_events import UserEvents, UserEventsParameters
from common.questions.user_lists import CountedUsers
from common.questions.user_profile import UserProfile, UserProfileParameters
from common.questions.users import Users
from repo.events import EventsRepo
from routes.errors import PROBLEMS
from routes.parameters import PROPERTY, USER
from services.answering.question_request import QueryRunner
from services.dependencies import (
    get_events_repo,
    get_query_runner,
    get_reader,
    refuse_repeated,
)

Q = TypeVar("Q", bound=Question)
Runner = Annotated[QueryRunner, Depends(get_query_runner)]
Events = Annotated[EventsRepo, Depends(get_events_repo)]

router = APIRouter(
    prefix="/analytics",
    tags=["analytics"],
    responses=PROBLEMS,
    dependencies=[Depends(get_reader)],
)


def _route(question: type[Question]) -> dict[str, Any]:
    """Return the options of the route of a question."""
    repeated = Depends(refuse_repeated(question))
    return {"responses": _answers(question), "dependencies": [repeated]}


def _method(
    repo: EventsRepo, question: Counting, method: Callable[[Any], Result[Any]]
) -> Callable[[Any], Result[Any]]:
    """Return the method that answers a question; another one for its plan, or a list of users."""
    if question.explain:
        return repo.get_plan
    return repo.get_counted_users if question.query.cell else method


def _answers(question: type[Question]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the answers to a question, in all media types."""
    model = question.answer
    if issubclass(question, Counting):
        model |= Answer[PlanData]
    if issubclass(question, ListsUsers):
        model |= CountedUsers
    text = {"schema": {"type": "string"}}
    return {200: {"model": model, "content": {"text/csv": text, "application/x-ndjson": text}}}


@router.get("/event-counts", **_route(EventCounts))
async def event_counts(
    question: Annotated[EventCounts, Query()], run_query: Runner, repo: Events
) -> Response:
    """Numbers of events and of unique users, in total and per hour, day, week or month."""
    return await run_query(_method(repo, question, repo.get_event_counts), question)


@router.get("/top-events", **_route(TopEvents))
async def top_events(
    question: Annotated[TopEvents, Query()], run_query: Runner, repo: Events
) -> Response:
    """The most frequent event names with their unique users; `other` sums up all others."""
    return await run_query(_method(repo, question, repo.get_top_events), question)


@router.get("/breakdown", **_route(Breakdown))
async def breakdown(
    question: Annotated[Breakdown, Query()], run_query: Runner, repo: Events
) -> Response:
    """Events and unique users by the values of one or two properties; `other` sums up the rest."""
    return await run_query(_method(repo, question, repo.get_breakdown), question)


@router.get("/active-users", **_route(ActiveUsers))
async def active_users(
    question: Annotated[ActiveUsers, Query()], run_query: Runner, repo: Events
) -> Response:
    """Daily, weekly and monthly active users for each day, rolling and by calendar."""
    return await run_query(_method(repo, question, repo.get_active_users), question)


@router.get("/numbers", **_route(Numbers))
async def numbers(
    question: Annotated[Numbers, Query()], run_query: Runner, repo: Events
) -> Response:
    """Sums, averages, extremes and percentiles of a numeric property of events."""
    return await run_query(_method(repo, question, repo.get_numbers), question)


@router.get("/event-names", **_route(EventNames))
async def event_names(
    question: Annotated[EventNames, Query()], run_query: Runner, repo: Events
) -> Response:
    """All event names with their events, users, and when they were first and last seen."""
    return await run_query(repo.get_event_names, question)


@router.get("/properties", **_route(Properties))
async def properties(
    question: Annotated[Properties, Query()], run_query: Runner, repo: Events
) -> Response:
    """All properties with their events, users, types, and numbers of distinct values."""
    return await run_query(repo.get_properties, question)


@router.get("/retention", **_route(Retention))
async def retention(
    question: Annotated[Retention, Query()], run_query: Runner, repo: Events
) -> Response:
    """Users by the period in which they enter, and how many of them come back in each period."""
    return await run_query(_method(repo, question, repo.get_retention), question)


@router.get("/lifecycle", **_route(Lifecycle))
async def lifecycle(
    question: Annotated[Lifecycle, Query()], run_query: Runner, repo: Events
) -> Response:
    """New, returning, resurrected and dormant users of each period."""
    return await run_query(_method(repo, question, repo.get_lifecycle), question)


@router.get("/stickiness", **_route(Stickiness))
async def stickiness(
    question: Annotated[Stickiness, Query()], run_query: Runner, repo: Events
) -> Response:
    """In how many days, weeks or months users were active."""
    return await run_query(_method(repo, question, repo.get_stickiness), question)


def _with(question: type[Q], query: Parameters, **path: str) -> Q:
    """Return the question with the parameters of the path. Raises: RequestValidationError."""
    try:
        return question.model_validate({**path, **query.model_dump(exclude_unset=True)})
    except ValidationError as exc:
        faults = [{**fault, "loc": ("query", *fault["loc"])} for fault in exc.errors()]
        raise RequestValidationError(faults) from None


async def _property_values(
    property: Annotated[PropertyName, Path(description="The name, as in `where`.")],
    query: Annotated[PropertyValuesParameters, Query()],
) -> PropertyValues:
    return _with(PropertyValues, query, property=property)


@router.get(f"{PROPERTY}/values", **_route(PropertyValues))
async def property_values(
    question: Annotated[PropertyValues, Depends(_property_values)], run_query: Runner, repo: Events
) -> Response:
    """The values of one property with their events and users, the most frequent first."""
    return await run_query(repo.get_property_values, question)


@router.get("/funnel", **_route(Funnel))
async def funnel(question: Annotated[Funnel, Query()], run_query: Runner, repo: Events) -> Response:
    """The number of users who go through steps one after the other, and the time it takes."""
    return await run_query(_method(repo, question, repo.get_funnel), question)


async def _user_events(
    user_id: Annotated[UserId, Path(description="The user id as in events.")],
    query: Annotated[UserEventsParameters, Query()],
) -> UserEvents:
    return _with(UserEvents, query, user_id=user_id)


@router.get(f"{USER}/events", **_route(UserEvents))
async def user_events(
    question: Annotated[UserEvents, Depends(_user_events)], run_query: Runner, repo: Events
) -> Response:
    """The events of one user, newest first, in pages; empty for an unknown user."""
    return await run_query(repo.get_user_events, question)


@router.get("/users", **_route(Users))
async def users(question: Annotated[Users, Query()], run_query: Runner, repo: Events) -> Response:
    """The users who have events, in pages, with when they were seen and how active they were."""
    return await run_query(_method(repo, question, repo.get_users), question)


async def _user_profile(
    user_id: Annotated[UserId, Path(description="The user id as in events.")],
    query: Annotated[UserProfileParameters, Query()],
) -> UserProfile:
    return _with(UserProfile, query, user_id=user_id)


# After the history: a path that ends with /events is one.
@router.get(USER, **_route(UserProfile))
async def user_profile(
    question: Annotated[UserProfile, Depends(_user_profile)], run_query: Runner, repo: Events
) -> Response:
    """The events of one user in numbers, and the latest value of each property."""
    return await run_query(repo.get_user_profile, question)
