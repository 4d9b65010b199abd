"""The source that aggregates columns and their tail: it answers what depends on properties."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime

from common.checkpoint import Checkpoint
from config.database import Cursor
from repo.columns.cache import COLUMN_CACHE, ColumnCache
from repo.engine.cardinality import Aggregates
from repo.engine.column_plan import ColumnPlan
from repo.engine.column_reader import KIND, ColumnReader
from repo.engine.count_collectors import CountCollector, NameCollector, TotalCollector
from repo.engine.plan import Aggregation
from repo.engine.scan import Scan
from repo.engine.scan_evaluation import ScanEvaluation
from repo.engine.watermark import Watermark


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnAggregationPlan(ColumnPlan):
    """A plan to aggregate events of columns."""

    aggregation: Aggregation


_Collector = TotalCollector | CountCollector | NameCollector


class ColumnSource:
    """A source on columns, within one snapshot; see `Source` for its methods."""

    kind = KIND

    def __init__(
        self,
        cur: Cursor,
        watermark: Watermark | None,
        horizon: datetime | None,
        cache: ColumnCache = COLUMN_CACHE,
    ) -> None:
        """`horizon` is the time before which events were dropped; None if none were."""
        self._reader = ColumnReader(cur, watermark, horizon, cache)

    @property
    def cache_version(self) -> str | None:
        return self._reader.cache_version

    def supports(self, aggregation: Aggregation) -> bool:
        return True

    def plan(self, aggregation: Aggregation, *, explain: bool = False) -> ColumnAggregationPlan:
        plan = self._reader.plan(_scan(aggregation), explain=explain)
        values = {each.name: getattr(plan, each.name) for each in fields(plan)}
        return ColumnAggregationPlan(**values, aggregation=aggregation)

    def read(self, plan: ColumnAggregationPlan) -> "ColumnEvaluation":
        collector = _collector(plan.aggregation)
        evaluation = self._reader.read(plan, collector)
        by_name = isinstance(collector, NameCollector)
        names = self._reader.names(evaluation.tail) if by_name else {}
        return ColumnEvaluation(plan, evaluation, collector, names)


@dataclass(frozen=True, slots=True)
class ColumnEvaluation:
    """Computes partial aggregates; see `Evaluation`."""

    plan: ColumnAggregationPlan
    evaluation: ScanEvaluation
    collector: _Collector
    names: Mapping[int, str]
    """All event names by their ids, if events are grouped by name."""

    @property
    def size(self) -> int:
        return self.evaluation.size

    def __call__(self, checkpoint: Checkpoint) -> Aggregates:
        """Raises: CorruptColumn, and what the checkpoint raises."""
        remarks = self.evaluation(checkpoint)
        return replace(self._aggregates(), remarks=remarks)

    def _aggregates(self) -> Aggregates:
        group = self.plan.aggregation.group
        if not isinstance(self.collector, NameCollector):
            return self.collector.aggregates()
        assert group, "this collector is that of groups"
        return self.collector.aggregates(self.names, group.limit)


def _scan(aggregation: Aggregation) -> Scan:
    return Scan(
        question=aggregation.question,
        ranges=aggregation.ranges,
        event_names=aggregation.event_names,
        where=aggregation.where,
        users=aggregation.users,
        fields=frozenset({"name"}) if aggregation.group else frozenset(),
        alternatives=aggregation.alternatives,
    )


def _collector(aggregation: Aggregation) -> _Collector:
    ranges = len(aggregation.ranges)
    if aggregation.group:
        return NameCollector([{} for _ in range(ranges)])
    return TotalCollector() if ranges == 1 else CountCollector(ranges)
