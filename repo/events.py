"""The repository of questions about events; each method reads one snapshot."""

from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from common.decorators import with_cursor, with_statement
from common.parameters import ALL_TIME
from common.query import Query
from common.questions.active_users import ActiveUsersData, ActiveUsersQuery
from common.questions.answer import Answer, Meta, PlanData, Reading, Result
from common.questions.event_counts import EventCountsData, EventCountsQuery
from common.questions.top_events import TopEventsData, TopEventsQuery
from common.questions.user_events import PageMeta, UserEventsAnswer, UserEventsQuery
from config.database import Connection, Cursor
from repo.engine.cardinality import Aggregates
from repo.engine.column_source import ColumnPlan, ColumnSource
from repo.engine.cost import MAX_BYTES, MAX_COLUMN_ROWS, MAX_ROWS, Cost
from repo.engine.plan import Plan
from repo.engine.raw_source import RawSource
from repo.engine.rollup_source import RollupSource
from repo.engine.source import Source, choose
from repo.engine.watermark import read_horizon, read_watermark
from repo.queries.active_users import ActiveUsersReduction
from repo.queries.base import REDUCTIONS, Reduction
from repo.queries.event_counts import EventCountsReduction
from repo.queries.top_events import TopEventsReduction
from repo.queries.user_events import History, user_events
from utils.time.calendar import Range

Q = TypeVar("Q", bound=Query)
D = TypeVar("D")


class EventsRepo:
    """Answers the questions of one request, which gets a connection with the first question."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_event_counts(self, cur: Cursor, query: EventCountsQuery) -> Result[EventCountsData]:
        """Return the number of events and of distinct users, as a total or a series.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return _answer(cur, query, EventCountsReduction)

    @with_cursor
    def get_top_events(self, cur: Cursor, query: TopEventsQuery) -> Result[TopEventsData]:
        """Return the most frequent event names; ties are ordered by name.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return _answer(cur, query, TopEventsReduction)

    @with_cursor
    def get_active_users(self, cur: Cursor, query: ActiveUsersQuery) -> Result[ActiveUsersData]:
        """Return the daily, weekly and monthly active users of each day that has begun.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return _answer(cur, query, ActiveUsersReduction)

    @with_cursor
    def get_plan(self, cur: Cursor, query: Query) -> Answer[PlanData]:
        """Return what a query would read, and the limits, without reading it.

        Raises: InvalidParameter.
        """
        choice = _choose(cur, query, REDUCTIONS[type(query)], explain=True)
        return Answer(_plan_data(choice.plan), Meta(**choice.meta))

    def get_user_events(self, query: UserEventsQuery) -> UserEventsAnswer:
        """Return a page of a user's events, newest first; empty for an unknown user.

        Raises: InvalidParameter, EventsDropped.
        """
        # A range that does not depend on the database's clock needs one round trip: the first page
        # is a single statement, which is its own snapshot.
        time_range = query.period.fixed_range
        return self._history_of_range(query, time_range) if time_range else self._history_now(query)

    @with_statement
    def _history_of_range(
        self, cur: Cursor, query: UserEventsQuery, time_range: Range
    ) -> UserEventsAnswer:
        return _history(cur, query, user_events(cur, query, time_range))

    @with_cursor
    def _history_now(self, cur: Cursor, query: UserEventsQuery) -> UserEventsAnswer:
        return _history(cur, query, user_events(cur, query, query.range_at(cur.now)))


def open_sources(cur: Cursor, query: Query) -> list[Source[Any]]:
    """Return the sources of the snapshot, and set its clock to that of the rollups if it is behind.

    The events themselves are a source only where there are no rollups of this cluster.
    """
    watermark = read_watermark(cur, query.months)
    if watermark is None:
        horizon = read_horizon(cur)
        return [ColumnSource(cur, None, horizon) if query.where else RawSource(cur, horizon)]
    # The clock may be behind the watermark: on a replica, or because it was put back.
    cur.now = max(cur.now, watermark.folded_range.end)
    # Filters need columns, and all else is read faster from rollups.
    if query.where:
        return [ColumnSource(cur, watermark, watermark.horizon)]
    return [RollupSource(cur, watermark)]


class _Choice(NamedTuple, Generic[Q, D]):
    """How to answer a query, and the fields of its meta."""

    reduction: Reduction[Q, D]
    source: Source[Any]
    plan: Plan
    meta: dict[str, Any]


def _choose(
    cur: Cursor, query: Q, reduction_type: type[Reduction[Q, D]], *, explain: bool = False
) -> _Choice[Q, D]:
    # The sources come first: they may move the clock of the snapshot.
    sources = open_sources(cur, query)
    time_range = query.range_at(cur.now)
    reduction = reduction_type(query, time_range, cur.now)
    source, plan = choose(sources, reduction.aggregation(), explain=explain)
    meta = _meta_fields(query, time_range, cur.now, source.kind)
    return _Choice(reduction, source, plan, meta)


def _answer(cur: Cursor, query: Q, reduction_type: type[Reduction[Q, D]]) -> Result[D]:
    """Return the answer to a query, or what it is computed from.

    Raises: InvalidParameter, EventsDropped, TooExpensive.
    """
    reduction, source, plan, meta = _choose(cur, query, reduction_type)
    plan.check()
    cache_version = source.cache_version if query.months else None

    def finish(aggregates: Aggregates) -> Answer[D]:
        remarks = _remarks(aggregates)
        answer_meta = reduction.meta_type(**meta, **reduction.extra_meta(), **remarks)
        return Answer(reduction.data(aggregates), answer_meta, cache_version)

    result = source.read(plan)
    if isinstance(result, Aggregates):
        return finish(result)
    return Reading(lambda checkpoint: finish(result(checkpoint)), result.size)


def _remarks(aggregates: Aggregates) -> dict[str, Any]:
    """Return the fields of the meta that say what a reader of the counts may not expect."""
    notes = {"notes": list(aggregates.notes)} if aggregates.notes else {}
    return notes | ({"unknown": aggregates.unknown} if aggregates.unknown else {})


def _plan_data(plan: Plan) -> PlanData:
    cost = plan.cost or Cost()
    return PlanData(
        source=plan.source,
        rows=cost.rows,
        bytes=cost.bytes,
        events=cost.events,
        tail=plan.tail,
        allowed_rows=MAX_ROWS,
        allowed_bytes=MAX_BYTES,
        allowed_events=plan.allowed_events,
        chunks=len(plan.chunks) if isinstance(plan, ColumnPlan) else 0,
        column_rows=cost.column_rows,
        column_bytes=plan.unread_bytes if isinstance(plan, ColumnPlan) else 0,
        allowed_column_rows=MAX_COLUMN_ROWS,
        horizon=plan.horizon,
        needs_dropped=plan.needs_dropped,
    )


def _history(cur: Cursor, query: UserEventsQuery, history: History) -> UserEventsAnswer:
    meta = _meta_fields(query, history.time_range, cur.now, "events")
    if query.is_full_history:
        has_horizon = history.time_range.start != ALL_TIME.start
        meta |= {"start": meta["start"] if has_horizon else None, "end": None}
    page = PageMeta(**meta, next_cursor=history.older, previous_cursor=history.newer)
    return UserEventsAnswer(history.events, page)


def _meta_fields(query: Query, time_range: Range, now: datetime, source: str) -> dict[str, Any]:
    """Return the fields that the meta of every answer has."""
    start, end, computed_at = (each.astimezone(query.zone) for each in (*time_range, now))
    return {
        "start": start,
        "end": end,
        "tz": query.zone.key,
        "computed_at": computed_at,
        "complete_until": min(end, computed_at),
        "source": source,
        **({"where": str(query.where)} if query.where else {}),
    }
