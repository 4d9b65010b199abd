"""Compute the answer to `top_events` from partial aggregates."""

from common.questions.top_events import Other, TopEvent, TopEventsData, TopEventsQuery
from repo.engine.cardinality import Aggregates, Count
from repo.engine.plan import Aggregation, Group
from repo.queries.base import Reduction


class TopEventsReduction(Reduction[TopEventsQuery, TopEventsData], query=TopEventsQuery):
    """The most frequent names of the range up to now, and the totals of the others."""

    def aggregation(self) -> Aggregation:
        return self._aggregation([self.time_range], group=Group(self.query.limit))

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
