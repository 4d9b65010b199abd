"""The source that aggregates the events themselves: slow, but it needs no rollups."""

from collections import Counter
from datetime import datetime

from config.database import Cursor
from repo.engine.aggregate_decoder import (
    EventRow,
    Segments,
    TemporaryOrdinals,
    decode_events,
    segments_of,
)
from repo.engine.cardinality import (
    Aggregates,
    CardinalityCache,
    PartialAggregate,
    aggregates,
)
from repo.engine.cost import MAX_EVENTS, WINDOWS, Cost
from repo.engine.plan import Aggregation, Cover, CoverPlan
from repo.statements import statements
from utils.time.calendar import Range

SQL = statements("raw_events")

_ALTERNATIVES = (
    "a range from that time on, including the days of its rolling windows; and about any range "
    "once /readyz reports that there are rollups"
)


class RawSource:
    """A source on the table of events, within one snapshot; see `Source` for its methods."""

    cache_version = None
    kind = "events"

    def __init__(self, cur: Cursor, horizon: datetime | None = None) -> None:
        """`horizon` is the time before which events were dropped; None if none were."""
        self._cur = cur
        self._horizon = horizon

    def supports(self, aggregation: Aggregation) -> bool:
        return aggregation.where is None

    def plan(self, aggregation: Aggregation, *, explain: bool = False) -> CoverPlan:
        horizon, ranges = self._horizon, aggregation.ranges
        needs_dropped = horizon is not None and any(part.start < horizon for part in ranges)
        is_checked = explain or not needs_dropped
        return CoverPlan(
            source=self.kind,
            aggregation=aggregation,
            cover=Cover(edges=list(enumerate(ranges))),
            cost=self._cost(aggregation) if is_checked else None,
            allowed_events=MAX_EVENTS,
            horizon=horizon,
            needs_dropped=needs_dropped,
            alternatives=_ALTERNATIVES,
        )

    def read(self, plan: CoverPlan) -> Aggregates:
        aggregation = plan.aggregation
        partials: list[dict[str, PartialAggregate]] = [{} for _ in aggregation.ranges]
        segments = segments_of(plan.cover.edges)
        for segment, name, row in self._read(aggregation, segments):
            if segment in segments.indexes:
                index = segments.indexes[segment]
                partials[index].setdefault(name, PartialAggregate()).add(row)
        return aggregates(partials, self._named(partials, plan), CardinalityCache())

    def _read(self, aggregation: Aggregation, segments: Segments) -> list[EventRow]:
        if not segments.edges:
            return []
        # Only what the ranges cover is read: there may be a gap before the previous range.
        runs = _joined(aggregation.ranges)
        params = {
            "edges": segments.edges,
            "starts": [run.start for run in runs],
            "ends": [run.end for run in runs],
            "names": aggregation.event_names,
            "by_name": aggregation.group is not None,
        }
        return list(
            decode_events(self._cur.copy_out(SQL["raw_events"], params), TemporaryOrdinals())
        )

    def _cost(self, aggregation: Aggregation) -> Cost:
        """Return PostgreSQL's estimate of the number of events, which are not counted."""
        events = sum(map(self._estimate, _joined(aggregation.ranges)))
        # A user enters and leaves each window, which takes as long as counting an event.
        return Cost(events=2 * WINDOWS * events if aggregation.window_days else events)

    def _estimate(self, time_range: Range) -> int:
        self._cur.execute(SQL["raw_events_estimate"], time_range._asdict())
        ((plan,),) = self._cur.fetchone() or ()
        return int(plan["Plan"]["Plan Rows"])

    def _named(
        self, partials: list[dict[str, PartialAggregate]], plan: CoverPlan
    ) -> dict[str, str]:
        """Return the names of the groups of the answer, in its order."""
        if plan.aggregation.group is None:
            return {}
        totals = Counter[str]()
        for part in partials:
            totals.update({name: aggregate.events for name, aggregate in part.items()})
        order = sorted(totals, key=lambda name: (-totals[name], name))
        return {name: name for name in order[: plan.aggregation.group.limit]}


def _joined(ranges: list[Range]) -> list[Range]:
    """Return ranges that are not empty, with adjacent ones joined."""
    joined: list[Range] = []
    for part in ranges:
        if joined and joined[-1].end == part.start:
            joined[-1] = Range(joined[-1].start, part.end)
        elif part.start < part.end:
            joined.append(part)
    return joined
