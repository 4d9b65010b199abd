"""Answer a query in one snapshot: choose what to read, read it, and compute the answer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from common.cells import Cell
from common.errors import (
    ColumnsBuilding,
    EventsDropped,
    InvalidCursor,
    InvalidParameter,
    TooExpensive,
)
from common.metrics import PLANS
from common.query import Query
from common.questions.answer import (
    Answer,
    Checkpoint,
    Meta,
    MoreToRead,
    PlanData,
    Reading,
    Result,
)
from common.remarks import NO_REMARKS, Remarks
from config.database import Cursor
from repo.engine.cardinality import Aggregates
from repo.engine.column_plan import ColumnPlan
from repo.engine.column_reader import ColumnReader
from repo.engine.column_source import ColumnSource
from repo.engine.cost import MAX_BYTES, MAX_COLUMN_ROWS, MAX_ROWS, Cost
from repo.engine.plan import Aggregation, Plan, total_plan
from repo.engine.raw_source import RawSource
from repo.engine.rollup_source import RollupSource
from repo.engine.scan import OrderedCollector
from repo.engine.scan_evaluation import ScanEvaluation
from repo.engine.source import Source
from repo.engine.user_sets import user_sets_of
from repo.engine.watermark import Watermark, read_horizon, read_watermark
from repo.queries.base import (
    REDUCTIONS,
    BaseReduction,
    Reduction,
    ScanReduction,
    UserSetReduction,
)

Q = TypeVar("Q", bound=Query)
D = TypeVar("D")


class _Computed(NamedTuple, Generic[D]):
    """The data of an answer, and remarks on it."""

    data: D
    remarks: Remarks


@dataclass(frozen=True, slots=True)
class _Unfinished(Generic[D]):
    """Data that was read, from which the answer is computed without a connection.

    Instead of an answer, the computation may return a call that reads more.
    """

    compute: Callable[[Checkpoint], "_Computed[D] | Callable[[Cursor], _Unfinished[D]]"]
    size: int


class _Choice(NamedTuple, Generic[Q, D]):
    """The reduction of a query, the plan for it, and the call that reads it."""

    reduction: BaseReduction[Q, D]
    plan: Plan
    cache_version: str | None
    read: Callable[[], "_Computed[D] | _Unfinished[D]"]
    alternative: "Callable[[], _Choice[Q, D] | None]"
    """Returns a choice for where this one lacks events or exceeds the limits."""


def answer(cur: Cursor, query: Q, reduction_type: type[BaseReduction[Q, D]]) -> Result[D]:
    """Return the answer to a query, or what it is computed from.

    Raises: InvalidParameter, EventsDropped, TooExpensive.
    """
    assert query.cell is None, "a list of users is no answer of this kind"
    choice = _choose(cur, query, reduction_type)
    try:
        return _answer(cur, choice)
    except (ColumnsBuilding, EventsDropped, TooExpensive):
        alternative = choice.alternative()
        if alternative is None:
            raise
    return _answer(cur, alternative)


def _answer(cur: Cursor, choice: _Choice[Q, D]) -> Result[D]:
    choice.plan.check()
    reduction, query = choice.reduction, choice.reduction.query
    is_over = query.is_over(cur.now)
    meta = {
        **query.meta(reduction.time_range, cur.now, choice.plan.source),
        **reduction.extra_meta(),
    }
    cache_version = choice.cache_version if query.months else None

    def finish(computed: _Computed[D]) -> Answer[D]:
        answer_meta = reduction.meta_type(**{**meta, **remark_fields(computed.remarks)})
        return Answer(computed.data, answer_meta, cache_version, is_over)

    def reading(unfinished: _Unfinished[D]) -> Reading[D]:
        def evaluate(checkpoint: Checkpoint) -> Answer[D] | MoreToRead[D]:
            result = unfinished.compute(checkpoint)
            if isinstance(result, _Computed):
                return finish(result)
            return MoreToRead(lambda cur: reading(result(cur)))

        return Reading(evaluate, unfinished.size)

    result = choice.read()
    return finish(result) if isinstance(result, _Computed) else reading(result)


def explain(cur: Cursor, query: Query) -> Answer[PlanData]:
    """Return what a query would read, and the limits, without reading it.

    Raises: InvalidParameter, InvalidCursor.
    """
    if query.cell:
        of_cell = choose_cell(cur, query, query.cell, explain=True)
        return Answer(_plan_data(of_cell.plan), Meta(**of_cell.meta))
    choice = _choose(cur, query, REDUCTIONS[type(query)], explain=True)
    try:
        choice.plan.check()
    except (EventsDropped, TooExpensive):
        choice = choice.alternative() or choice
    return Answer(_plan_data(choice.plan), Meta(**_meta(choice, cur.now)))


def open_sources(
    cur: Cursor, watermark: Watermark | None, *, is_filtered: bool = False
) -> list[Source[Any]]:
    """Return the sources of the snapshot that can give partial aggregates.

    The events themselves are a source only where there are no rollups of this cluster.
    """
    if is_filtered:
        # Filters need columns, and all else is read faster from rollups.
        return [ColumnSource(cur, watermark, horizon_of(cur, watermark))]
    if watermark is None:
        return [RawSource(cur, read_horizon(cur))]
    return [RollupSource(cur, watermark)]


def choose(
    sources: Iterable[Source[Any]], aggregation: Aggregation, *, explain: bool
) -> tuple[Source[Any], Plan]:
    """Return the source with the cheapest plan, and the plan."""
    plans = [
        (source, source.plan(aggregation, explain=explain))
        for source in sources
        if source.supports(aggregation)
    ]
    source, plan = min(plans, key=lambda candidate: candidate[1].weight)
    PLANS.labels(aggregation.question, source.kind).inc()
    return source, plan


def open_watermark(cur: Cursor, query: Query) -> Watermark | None:
    """Return the watermark, and set the clock of the snapshot to it if it is behind.

    Raises: InvalidCursor, if the first page of a list was read from another database.
    """
    watermark = read_watermark(cur, query.months)
    if watermark is not None:
        # The clock may be behind the watermark: on a replica, or because it was put back.
        cur.now = max(cur.now, watermark.folded_range.end)
    position = query.page.position if query.page else None
    if position and position.lineage != lineage_of(watermark):
        raise InvalidCursor
    return watermark


def lineage_of(watermark: Watermark | None) -> str:
    """Return the id of the database that a list is read from; empty without rollups."""
    return watermark.lineage if watermark else ""


def horizon_of(cur: Cursor, watermark: Watermark | None) -> datetime | None:
    """Return the time before which events were dropped; None if none were."""
    return watermark.horizon if watermark else read_horizon(cur)


def _choose(
    cur: Cursor, query: Q, reduction_type: type[BaseReduction[Q, D]], *, explain: bool = False
) -> _Choice[Q, D]:
    # The watermark comes first: it may move the clock of the snapshot.
    watermark = open_watermark(cur, query)
    reduction = reduction_at(cur, query, reduction_type)
    if isinstance(reduction, ScanReduction):
        reader = ColumnReader(cur, watermark, horizon_of(cur, watermark))
        choice = _choose_scan(reader, reduction, explain=explain)
        if watermark is None or not isinstance(reduction, UserSetReduction):
            return choice
        if not reduction.user_sets():
            return choice

        def alternative() -> _Choice[Q, D]:
            return _choose_user_sets(RollupSource(cur, watermark), reduction, explain=explain)

        return choice._replace(alternative=alternative)
    assert isinstance(reduction, Reduction), "there are two kinds of reductions"
    sources = open_sources(cur, watermark, is_filtered=query.reads_properties)
    return _choose_source(sources, reduction, explain=explain)


def _choose_scan(
    reader: ColumnReader, reduction: ScanReduction[Q, D], *, explain: bool
) -> _Choice[Q, D]:
    plan = reader.plan(reduction.scan(), explain=explain)
    read = _ScanComputation(reader, plan, reduction).read
    return _Choice(reduction, plan, reader.cache_version, read, _no_alternative)


@dataclass(frozen=True, slots=True)
class _ScanComputation(Generic[Q, D]):
    """Computes an answer from columns."""

    reader: ColumnReader
    plan: ColumnPlan
    reduction: ScanReduction[Q, D]

    def read(self) -> _Unfinished[D]:
        """Read the columns and the tail."""
        collector = self.reduction.collector()
        evaluation = self.reader.read(self.plan, collector)
        if self.reduction.needs_names:
            collector.names = self.reader.names(evaluation.tail)
        return _Unfinished(partial(self._compute, collector, evaluation), evaluation.size)

    def _compute(
        self, collector: Any, evaluation: ScanEvaluation, checkpoint: Checkpoint
    ) -> _Computed[D] | Callable[[Cursor], _Unfinished[D]]:
        remarks = evaluation(checkpoint)
        computed = _computed(self.reduction, collector, remarks, checkpoint)
        if isinstance(collector, OrderedCollector) and collector.unordered_ties.size:
            return partial(self._read_ties, collector, evaluation, remarks)
        return computed

    def _read_ties(
        self,
        collector: OrderedCollector,
        evaluation: ScanEvaluation,
        remarks: Remarks,
        cur: Cursor,
    ) -> _Unfinished[D]:
        """Read the events of ties in their order, to compute the answer again."""
        ties = self.reader.read_ties(cur, evaluation, collector.unordered_ties)

        def compute_again(checkpoint: Checkpoint) -> _Computed[D]:
            evaluation.add_in_order(ties, collector)
            return _computed(self.reduction, collector, remarks, checkpoint)

        return _Unfinished(compute_again, evaluation.size + ties.size)


def _choose_user_sets(
    source: RollupSource, reduction: UserSetReduction[Q, D], *, explain: bool
) -> _Choice[Q, D]:
    """Return how to compute an answer about users from the sets of rollups."""
    plans = [source.plan(each, explain=explain) for each in reduction.user_sets()]
    PLANS.labels(reduction.query.name, source.kind).inc()

    def read() -> _Unfinished[D]:
        sets = user_sets_of([source.read(plan) for plan in plans])

        def compute(checkpoint: Checkpoint) -> _Computed[D]:
            collector = reduction.collector()
            reduction.add_user_sets(collector, sets)
            return _Computed(reduction.data(collector, checkpoint), NO_REMARKS)

        return _Unfinished(compute, sum(each.size for each in sets))

    return _Choice(reduction, total_plan(plans), source.cache_version, read, _no_alternative)


def _no_alternative() -> None:
    """Return no choice."""


def _computed(
    reduction: ScanReduction[Q, D], collector: Any, remarks: Remarks, checkpoint: Checkpoint
) -> _Computed[D]:
    data = reduction.data(collector, checkpoint)
    notes = (*remarks.notes, *reduction.remarks(collector))
    without_user = reduction.events_without_user(collector)
    return _Computed(data, Remarks(notes, remarks.unknown, without_user))


def reduction_at(
    cur: Cursor, query: Q, reduction_type: type[BaseReduction[Q, D]]
) -> BaseReduction[Q, D]:
    """Return the reduction of a query at the clock of the snapshot, or of a list's first page.

    Raises: InvalidParameter.
    """
    position = query.page.position if query.page else None
    now = position.now if position else cur.now
    return reduction_type(query, query.range_at(now), now)


class CellChoice(NamedTuple):
    """The reduction of a query whose users are listed, and the plan that finds them."""

    reduction: BaseReduction[Any, Any]
    plan: ColumnPlan
    reader: ColumnReader
    watermark: Watermark | None

    @property
    def meta(self) -> dict[str, Any]:
        """The fields that the meta of each answer has."""
        reduction = self.reduction
        meta = reduction.query.meta(reduction.time_range, reduction.now, self.plan.source)
        return {name: reduction.extra_meta().get(name, value) for name, value in meta.items()}


def choose_cell(cur: Cursor, query: Query, cell: Cell, *, explain: bool = False) -> CellChoice:
    """Return what to read for the users of a cell. Raises: InvalidParameter, InvalidCursor."""
    watermark = open_watermark(cur, query)
    reduction = reduction_at(cur, query, REDUCTIONS[type(query)])
    # Lists are read from columns, whatever the source of the number.
    reader = ColumnReader(cur, watermark, horizon_of(cur, watermark))
    plan = reader.plan(reduction.cell_scan(cell), explain=explain)
    return CellChoice(reduction, plan, reader, watermark)


def _choose_source(
    sources: list[Source[Any]], reduction: Reduction[Q, D], *, explain: bool
) -> _Choice[Q, D]:
    cheaper = reduction.without_first_ever()
    try:
        source, plan = choose(sources, reduction.aggregation(), explain=explain)
    except InvalidParameter:  # a property may be missing in older columns
        if cheaper is None:
            raise
        return _choose_source(sources, cheaper, explain=explain)

    def compute(aggregates: Aggregates) -> _Computed[D]:
        return _Computed(reduction.data(aggregates), aggregates.remarks)

    def read() -> _Computed[D] | _Unfinished[D]:
        result = source.read(plan)
        if isinstance(result, Aggregates):
            return compute(result)
        return _Unfinished(lambda checkpoint: compute(result(checkpoint)), result.size)

    def alternative() -> _Choice[Q, D] | None:
        return _choose_source(sources, cheaper, explain=explain) if cheaper else None

    return _Choice(reduction, plan, source.cache_version, read, alternative)


def _meta(choice: _Choice[Any, Any], now: datetime) -> dict[str, Any]:
    reduction = choice.reduction
    query: Query = reduction.query
    return query.meta(reduction.time_range, now, choice.plan.source)


def remark_fields(remarks: Remarks) -> dict[str, Any]:
    """Return the fields of the meta that say what a reader of the answer may not expect."""
    fields = {
        "notes": list(remarks.notes) or None,
        "unknown": remarks.unknown,
        "events_without_user": remarks.events_without_user,
    }
    return {name: value for name, value in fields.items() if value is not None}


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
        chunks=plan.chunk_count if isinstance(plan, ColumnPlan) else 0,
        column_rows=cost.column_rows,
        column_bytes=plan.unread_bytes if isinstance(plan, ColumnPlan) else 0,
        allowed_column_rows=MAX_COLUMN_ROWS,
        horizon=plan.horizon,
        needs_dropped=plan.needs_dropped,
    )
