"""The repository of questions about events; each method reads one snapshot."""

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any

from common.decorators import with_cursor, with_statement
from common.metrics import PLANS
from common.parameters import ALL_TIME
from common.query import Query
from common.questions.active_users import ActiveUsers, ActiveUsersAnswer, ActiveUsersMeta
from common.questions.answer import Answer, Meta, PlanData
from common.questions.base import Counting, Ranged
from common.questions.event_counts import EventCounts, EventCountsData
from common.questions.top_events import TopEvents, TopEventsData
from common.questions.user_events import PageMeta, UserEvents, UserEventsAnswer
from config.database import Connection, Cursor
from repo.engine.explain import CostEstimator
from repo.engine.raw_source import RawSource
from repo.engine.rollup_source import RollupSource
from repo.engine.source import Source
from repo.engine.watermark import read_horizon, read_watermark
from repo.queries.active_users import active_users
from repo.queries.event_counts import event_counts
from repo.queries.top_events import top_events
from repo.queries.user_events import History, user_events
from utils.time.calendar import Range

_REDUCTIONS: dict[type[Counting], Callable[[Source, Any, Range, datetime], object]] = {
    EventCounts: event_counts,
    TopEvents: top_events,
    ActiveUsers: active_users,
}


class EventsRepo:
    """Answers the questions of one request, which gets a connection with the first question."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_event_counts(self, cur: Cursor, question: EventCounts) -> Answer[EventCountsData]:
        """Return the number of events and of distinct users, as a total or a series.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        source = _source(cur, question)
        time_range = question.range_now(cur.as_of)
        data = event_counts(source, question, time_range, cur.as_of)
        return Answer(data, _meta(cur, question, time_range, source.kind), source.cache_version)

    @with_cursor
    def get_top_events(self, cur: Cursor, question: TopEvents) -> Answer[TopEventsData]:
        """Return the most frequent event names; ties are ordered by name.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        source = _source(cur, question)
        time_range = question.range_now(cur.as_of)
        data = top_events(source, question, time_range, cur.as_of)
        return Answer(data, _meta(cur, question, time_range, source.kind), source.cache_version)

    @with_cursor
    def get_active_users(self, cur: Cursor, question: ActiveUsers) -> ActiveUsersAnswer:
        """Return the daily, weekly and monthly active users of each day that has begun.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        source = _source(cur, question)
        time_range = question.range_now(cur.as_of)
        meta = _meta(cur, question, time_range, source.kind)
        data = active_users(source, question, time_range, cur.as_of)
        windows_meta = ActiveUsersMeta(**_meta_fields(meta), windows=question.windows)
        return ActiveUsersAnswer(data, windows_meta, source.cache_version)

    @with_cursor
    def get_plan(self, cur: Cursor, question: Counting) -> Answer[PlanData]:
        """Return what a question would read, without reading it."""
        estimator = CostEstimator(_source(cur, question))
        time_range = question.range_now(cur.as_of)
        _REDUCTIONS[type(question)](estimator, question, time_range, cur.as_of)
        return Answer(estimator.plan(), _meta(cur, question, time_range, estimator.kind))

    def get_user_events(self, question: UserEvents) -> UserEventsAnswer:
        """Return a page of a user's events, newest first; empty for an unknown user.

        Raises: InvalidParameter, EventsDropped.
        """
        # A range that does not depend on the database's clock needs one round trip: the first page
        # is a single statement, which is its own snapshot.
        time_range = question.fixed_range
        return (
            self._history_of_range(question, time_range)
            if time_range
            else self._history_now(question)
        )

    @with_statement
    def _history_of_range(
        self, cur: Cursor, question: UserEvents, time_range: Range
    ) -> UserEventsAnswer:
        return _history(cur, question, user_events(cur, question, time_range))

    @with_cursor
    def _history_now(self, cur: Cursor, question: UserEvents) -> UserEventsAnswer:
        return _history(cur, question, user_events(cur, question, question.range_now(cur.as_of)))


def _history(cur: Cursor, question: UserEvents, history: History) -> UserEventsAnswer:
    fields_of_meta = _meta_fields(
        _meta(cur, question, history.time_range, is_full_history=question.is_full_history)
    )
    meta = PageMeta(**fields_of_meta, next_cursor=history.older, previous_cursor=history.newer)
    return UserEventsAnswer(history.events, meta)


def query_of(question: Ranged) -> Query:
    """Return the query that counts a question."""
    window = (isinstance(question, ActiveUsers) and question.window) or 1
    names, months = question.names, question.months
    return Query(question.name, question.zone, names, months, question.week_start, window)


def _source(cur: Cursor, question: Counting) -> Source:
    """Return the rollups as source if there are some of this cluster, else the events."""
    # Must come before the range of the question, which depends on `cur.as_of`.
    watermark = read_watermark(cur, question.months)
    if watermark is None:
        source: Source = RawSource(cur, query_of(question), read_horizon(cur))
    else:
        # The clock may be behind the watermark: on a replica, or because it was put back.
        cur.as_of = max(cur.as_of, watermark.folded_range.end)
        source = RollupSource(cur, query_of(question), watermark)
    PLANS.labels(question.name, source.kind).inc()
    return source


def _meta(
    cur: Cursor,
    question: Ranged,
    time_range: Range,
    source: str = "events",
    *,
    is_full_history: bool = False,
) -> Meta:
    """Return the meta of an answer; a full history has a start only if events were dropped."""
    start, end, as_of = (instant.astimezone(question.zone) for instant in (*time_range, cur.as_of))
    return Meta(
        start=None if is_full_history and time_range.start == ALL_TIME.start else start,
        end=None if is_full_history else end,
        tz=question.tz,
        computed_at=as_of,
        complete_until=min(end, as_of),
        source=source,
    )


def _meta_fields(meta: Meta) -> dict[str, Any]:
    return {field.name: getattr(meta, field.name) for field in fields(Meta)}
