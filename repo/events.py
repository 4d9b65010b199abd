"""The questions about events. Each method is one read-only snapshot."""

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any

from common.answers import (
    ActiveUsersAnswer,
    ActiveUsersMeta,
    Answer,
    EventCountsData,
    Meta,
    PageMeta,
    PlanData,
    TopEventsData,
    UserEventsAnswer,
)
from common.base_questions import Counting, Ranged
from common.decorators import with_cursor, with_statement
from common.metrics import PLANS
from common.parameters import EVER
from common.query import Query
from common.questions import ActiveUsers, EventCounts, TopEvents, UserEvents
from config.database import Connection, Cursor
from repo import answering
from repo.answering.user_events import History
from repo.explain import Explained
from repo.raw import Raw
from repo.rollups.rolled import Rolled
from repo.rollups.state import read_horizon, read_state
from repo.sources import Source
from utils.timebuckets import Range

_ANSWERING: dict[type[Counting], Callable[[Source, Any, Range, datetime], object]] = {
    EventCounts: answering.event_counts,
    TopEvents: answering.top_events,
    ActiveUsers: answering.active_users,
}


class EventsRepo:
    """The questions of one request; it takes no connection before the first."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_event_counts(self, cur: Cursor, question: EventCounts) -> Answer[EventCountsData]:
        """How many events there were, and of how many users.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        source = _source(cur, question)
        asked = question.range_now(cur.as_of)
        data = answering.event_counts(source, question, asked, cur.as_of)
        return Answer(data, _meta(cur, question, asked, source.kind), source.edition)

    @with_cursor
    def get_top_events(self, cur: Cursor, question: TopEvents) -> Answer[TopEventsData]:
        """The most frequent event names; those that tie stand in the order of their names.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        source = _source(cur, question)
        asked = question.range_now(cur.as_of)
        data = answering.top_events(source, question, asked, cur.as_of)
        return Answer(data, _meta(cur, question, asked, source.kind), source.edition)

    @with_cursor
    def get_active_users(self, cur: Cursor, question: ActiveUsers) -> ActiveUsersAnswer:
        """Daily, weekly and monthly active users of each day that has begun.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        source = _source(cur, question)
        asked = question.range_now(cur.as_of)
        meta = _meta(cur, question, asked, source.kind)
        data = answering.active_users(source, question, asked, cur.as_of)
        more = ActiveUsersMeta(**_shared(meta), windows=question.windows)
        return ActiveUsersAnswer(data, more, source.edition)

    @with_cursor
    def get_plan(self, cur: Cursor, question: Counting) -> Answer[PlanData]:
        """What a question would read."""
        explained = Explained(_source(cur, question))
        asked = question.range_now(cur.as_of)
        _ANSWERING[type(question)](explained, question, asked, cur.as_of)
        return Answer(explained.plan(), _meta(cur, question, asked, explained.kind))

    def get_user_events(self, question: UserEvents) -> UserEventsAnswer:
        """A page of what one user did, newest first; empty for a user nobody knows.

        Raises: InvalidParameter, EventsDropped.
        """
        asked = question.fixed_range
        return self._history_of(question, asked) if asked else self._history_now(question)

    @with_statement
    def _history_of(self, cur: Cursor, question: UserEvents, asked: Range) -> UserEventsAnswer:
        return _history(cur, question, answering.user_events(cur, question, asked))

    @with_cursor
    def _history_now(self, cur: Cursor, question: UserEvents) -> UserEventsAnswer:
        return _history(
            cur, question, answering.user_events(cur, question, question.range_now(cur.as_of))
        )


def _history(cur: Cursor, question: UserEvents, found: History) -> UserEventsAnswer:
    shared = _shared(_meta(cur, question, found.left, whole=question.is_whole))
    meta = PageMeta(**shared, next_cursor=found.older, previous_cursor=found.newer)
    return UserEventsAnswer(found.events, meta)


def query_of(question: Ranged) -> Query:
    """What is counted for a question."""
    window = (isinstance(question, ActiveUsers) and question.window) or 1
    names, months = question.names, question.months
    return Query(question.name, question.zone, names, months, question.week_start, window)


def _source(cur: Cursor, question: Counting) -> Source:
    """Rollups where there are some for this cluster, else the events."""
    state = read_state(cur, question.months)
    if state is None:
        source: Source = Raw(cur, query_of(question), read_horizon(cur))
    else:
        # A replica's clock may be behind that of the server whose folder came so far.
        cur.as_of = max(cur.as_of, state.folded.end)
        source = Rolled(cur, query_of(question), state)
    PLANS.labels(question.name, source.kind).inc()
    return source


def _meta(
    cur: Cursor, question: Ranged, asked: Range, source: str = "events", *, whole: bool = False
) -> Meta:
    """A whole history has no end, and a start only where events were dropped."""
    start, end, as_of = (moment.astimezone(question.zone) for moment in (*asked, cur.as_of))
    return Meta(
        start=None if whole and asked.start == EVER.start else start,
        end=None if whole else end,
        tz=question.tz,
        computed_at=as_of,
        complete_until=min(end, as_of),
        source=source,
    )


def _shared(meta: Meta) -> dict[str, Any]:
    return {field.name: getattr(meta, field.name) for field in fields(Meta)}
