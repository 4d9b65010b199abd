"""Compute the answer to `top_events` from partial aggregates."""

from common.cells import EVENT_NAME, Cell
from common.filters import AnyOf, Condition, Filter, Name
from common.questions.answer import Checkpoint
from common.questions.top_events import Other, TopEvent, TopEventsData, TopEventsQuery
from repo.engine.cardinality import Aggregates, Count
from repo.engine.count_collectors import UserCollector
from repo.engine.grouping.collector import GroupCollector
from repo.engine.ordinals import Ordinals
from repo.engine.plan import Aggregation, Group
from repo.engine.scan import Scan
from repo.queries.base import Reduction


class TopEventsReduction(Reduction[TopEventsQuery, TopEventsData], query=TopEventsQuery):
    """The most frequent names of the range up to now, and the totals of the others."""

    def aggregation(self) -> Aggregation:
        return self._aggregation([self.time_range], group=Group(self.query.limit))

    def cell_scan(self, cell: Cell) -> Scan:
        if cell.row is None:
            return super().cell_scan(cell)
        return self._scan([self.time_range], fields=frozenset({"name"}))

    def cell_collector(self, cell: Cell) -> UserCollector | GroupCollector:
        return GroupCollector([None]) if cell.row else UserCollector(self._cell_condition(cell))

    def cell_users(
        self, collector: UserCollector | GroupCollector, cell: Cell, checkpoint: Checkpoint
    ) -> Ordinals:
        if isinstance(collector, UserCollector):
            return collector.users()
        return collector.other_users(self.query.limit, None, checkpoint)

    def _cell_condition(self, cell: Cell) -> Filter | None:
        name = cell.fields.get(EVENT_NAME)
        return None if name is None else Condition(Name(field="event"), AnyOf("", (name,)))

    def data(self, aggregates: Aggregates) -> TopEventsData:
        (groups,) = aggregates.ranges
        total, others, *counts = aggregates.cardinalities.counts(
            [*aggregates.totals, groups.others, *groups.named.values()]
        )
        rows = [
            TopEvent(name, *count, _share(count, total))
            for name, count in zip(groups.named, counts, strict=True)
        ]
        other = Other(aggregates.other_groups, *others, _share(others, total))
        return TopEventsData(*total, rows, other)


def _share(part: Count, total: Count) -> float:
    return part.events / total.events if total.events else 0.0
