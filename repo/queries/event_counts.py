"""Compute the answer to `event_counts` from partial aggregates."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from common.cells import Cell
from common.questions.answer import Bucket
from common.questions.event_counts import EventCountsData, EventCountsQuery, Previous
from repo.engine.cardinality import Aggregates, Count, merge
from repo.engine.plan import Aggregation
from repo.queries.base import Reduction
from repo.queries.series import CalendarBucket, begun_buckets, bucket_of
from utils.time.calendar import Range
from utils.time.ranges import previous_range

_ALTERNATIVES = "`start={horizon}` or later, also of the previous range"


class EventCountsReduction(Reduction[EventCountsQuery, EventCountsData], query=EventCountsQuery):
    """The total up to now, and the series and the previous range if requested."""

    def __init__(self, query: EventCountsQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        self._previous = (
            previous_range(time_range, now, query.zone, query.week_start)
            if query.has_previous
            else None
        )
        self._buckets = self._buckets_of(time_range)
        # The previous range is cut to what has elapsed of this one, which may be nothing.
        has_begun = time_range.start < now
        self._previous_buckets = (
            self._buckets_of(self._previous) if self._previous and has_begun else []
        )

    def aggregation(self) -> Aggregation:
        previous = self._parts(self._previous, self._previous_buckets)
        also = {"alternatives": _ALTERNATIVES} if self._previous else {}
        return self._aggregation([*previous, *self._parts(self.time_range, self._buckets)], **also)

    def _cell_ranges(self, cell: Cell) -> list[Range]:
        index = bucket_of(cell, "start", self._buckets)
        return [self.time_range if index is None else self._buckets[index].part]

    def data(self, aggregates: Aggregates) -> EventCountsData:
        before, totals = len(self._parts(self._previous, self._previous_buckets)), aggregates.totals
        previous, parts = totals[:before], totals[before:]
        series = [*parts, *previous] if self.query.interval else []
        total, previous_total, *counts = aggregates.cardinalities.counts(
            [merge(parts), merge(previous), *series]
        )
        data = EventCountsData(*total)
        if self.query.interval:
            data = replace(data, series=_series(self._buckets, counts[: len(parts)]))
        if self._previous:
            data = replace(
                data, previous=self._previous_counts(previous_total, counts[len(parts) :])
            )
        return data

    def _buckets_of(self, time_range: Range) -> list[CalendarBucket]:
        return begun_buckets(self.query, time_range, self.now) if self.query.interval else []

    def _parts(self, time_range: Range | None, parts: Sequence[CalendarBucket]) -> list[Range]:
        """Return the ranges to aggregate for a range: its buckets in a series, or the whole."""
        if time_range is None:
            return []
        return [bucket.part for bucket in parts] if self.query.interval else [time_range]

    def _previous_counts(self, total: Count, counts: list[Count]) -> Previous:
        assert self._previous
        start, end = (edge.astimezone(self.query.zone) for edge in self._previous)
        previous = Previous(start, end, *total)
        if self.query.interval:
            return replace(previous, series=_series(self._previous_buckets, counts))
        return previous


def _series(parts: Sequence[CalendarBucket], counts: list[Count]) -> list[Bucket]:
    return [
        Bucket(**bucket.fields, events=count.events, users=count.users)
        for bucket, count in zip(parts, counts, strict=True)
    ]
