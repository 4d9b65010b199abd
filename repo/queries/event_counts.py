"""Compute the answer to `event_counts` from partial aggregates."""

from dataclasses import replace
from datetime import datetime

from common.questions.event_counts import Bucket, EventCountsData, EventCountsQuery, Previous
from repo.engine.cardinality import Aggregates, Count, merge
from repo.engine.plan import Aggregation
from repo.queries.base import Reduction
from utils.time.calendar import Range, buckets
from utils.time.ranges import previous_range


class EventCountsReduction(Reduction[EventCountsQuery, EventCountsData], query=EventCountsQuery):
    """The total up to now, and the series and the previous range if requested."""

    def __init__(self, query: EventCountsQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        self._buckets = self._begun_buckets() if query.interval else [time_range]
        self._previous = (
            [previous_range(time_range, now, query.zone, query.week_start)]
            if query.has_previous
            else []
        )

    def aggregation(self) -> Aggregation:
        return self._aggregation([*self._previous, *self._buckets])

    def data(self, aggregates: Aggregates) -> EventCountsData:
        totals = aggregates.totals
        previous, parts = totals[: len(self._previous)], totals[len(self._previous) :]
        total, *others = aggregates.cardinalities.counts([merge(parts), *previous])
        data = EventCountsData(*total)
        if self.query.interval:
            data = replace(data, series=self._series(aggregates.cardinalities.counts(parts)))
        if self._previous:
            data = replace(data, previous=self._previous_counts(*others))
        return data

    def _begun_buckets(self) -> list[Range]:
        """Return all buckets that have begun, including those without events."""
        query = self.query
        assert query.interval, "only a series has buckets"
        all_buckets = buckets(
            self.time_range, query.interval, query.zone, week_start=query.week_start
        )
        return [bucket for bucket in all_buckets if bucket.start <= self.now]

    def _series(self, counts: list[Count]) -> list[Bucket]:
        zone = self.query.zone
        return [
            Bucket(start.astimezone(zone), end.astimezone(zone), *count, partial=end > self.now)
            for (start, end), count in zip(self._buckets, counts, strict=True)
        ]

    def _previous_counts(self, count: Count) -> Previous:
        (previous,) = self._previous
        start, end = (edge.astimezone(self.query.zone) for edge in previous)
        return Previous(start, end, *count)
