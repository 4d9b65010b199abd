"""Plans: what a source would read to aggregate events, as values to print and to check.

Rollups cover ranges with the coarsest sealed spans that fit, then with slots.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from common.errors import EventsDropped
from common.filters import Filter
from common.user_criteria import UserCriterion
from repo.engine.cost import Cost
from utils.time.calendar import Range
from utils.time.slots import Span, next_slot, slot_of, slot_start

Kind = Callable[[Span], Sequence[Span]]
"""Returns the spans of one kind, such as days, within another span, in order."""


@dataclass(frozen=True, slots=True)
class Group:
    """Aggregate each event name by itself."""

    limit: int | None = None
    """The number of groups, those with the most events first; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """The events to aggregate, and the partial aggregates to make of them."""

    question: str
    """The name of the question, a label in metrics."""
    ranges: list[Range]
    """Ranges in order that do not overlap; there are partial aggregates for each."""
    zone: ZoneInfo
    """The zone whose local days are read as spans."""
    event_names: list[str] | None = None
    """The event names to count; None for all."""
    group: Group | None = None
    """None: all events of a range are one group."""
    where: Filter | None = None
    """The condition on events to count; None for all."""
    users: tuple[UserCriterion, ...] = ()
    """The criteria of the users whose events count; without any, all events do."""
    window_days: int = 0
    """The length in days of the longest rolling window that is counted from the sets of users; 0
    without windows. Each range but the first is a day then, and the first is all time before."""
    alternatives: str = "`start={horizon}` or later"
    """Questions that can be asked where a filter needs dropped events, for the error of it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The way in which a source would read events, and its cost."""

    source: str
    """`rollups`, `columns` or `events`."""
    cost: Cost | None
    """None where the plan is surely within the limits, so that its cost was not looked up."""
    allowed_events: int
    """How many events the source may read one by one, in addition to the tail."""
    tail: int = 0
    """The number of events in the tail, up to a limit, where the plan is explained."""
    horizon: datetime | None = None
    """The time before which events were dropped; None if none were."""
    needs_dropped: bool = False
    """Whether the plan reads events from before the horizon one by one."""
    alternatives: str = ""
    """Ranges that can be answered, for the error of a plan that needs dropped events."""

    @property
    def weight(self) -> int:
        """A measure of what the plan reads, to compare it with the plans of other sources."""
        return self.cost.weight if self.cost else 0

    def check(self) -> None:
        """Compare the plan with the limits. Raises: EventsDropped, TooExpensive."""
        if self.horizon and self.needs_dropped:
            raise EventsDropped(self.horizon, self.alternatives)
        if self.cost:
            self.cost.check(self.allowed_events)


@dataclass(slots=True)
class Cover:
    """A partition of ranges, each part with the index of its range.

    Each instant of a range is in exactly one edge or middle, and each folded slot of a middle in
    exactly one span or gap.
    """

    edges: list[tuple[int, Range]] = field(default_factory=list)
    """Parts that are finer than a slot, counted from the events."""
    middles: list[tuple[int, Range]] = field(default_factory=list)
    """The parts between the edges; their tail is added from the events."""
    spans: list[tuple[int, Span]] = field(default_factory=list)
    """The sealed parts of the middles."""
    gaps: list[tuple[int, Span]] = field(default_factory=list)
    """The other parts of the middles, read slot by slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverPlan(Plan):
    """A plan to read rows of rollups, and events one by one."""

    aggregation: Aggregation
    cover: Cover


def total_plan(plans: Sequence[CoverPlan]) -> Plan:
    """Return a plan that has the cost of all plans, at least one."""
    costs = [plan.cost for plan in plans if plan.cost]
    return replace(
        plans[0],
        cost=sum(costs, Cost()) if costs else None,
        needs_dropped=any(plan.needs_dropped for plan in plans),
    )


def cover_ranges(
    ranges: Sequence[Range],
    folded_range: Range,
    kinds: Sequence[Kind],
    is_sealed: Callable[[Span], bool],
) -> Cover:
    """Return how to count ranges; `kinds` are the kinds of spans to use, the coarsest first."""
    result = Cover()
    _divide(result, ranges, folded_range)
    result.spans, result.gaps = _cover_gaps(result.gaps, kinds, is_sealed)
    return result


def cover(
    outer: Span, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Return disjoint sealed spans within `outer`, the coarsest first, and the gaps that remain."""
    outer_gaps = [(0, outer)] if outer.start < outer.end else []
    spans, gaps = _cover_gaps(outer_gaps, kinds, is_sealed)
    return tuple(span for _, span in spans), tuple(gap for _, gap in gaps)


def _divide(result: Cover, ranges: Sequence[Range], folded_range: Range) -> None:
    """Add edges, middles, and the folded slots of the middles as gaps."""
    first_folded, end_folded = slot_of(folded_range.start), next_slot(folded_range.end)
    for index, (start, end) in enumerate(ranges):
        # Slots hold no events after `folded_range`, so a range that ends later can use the whole
        # slot that contains its end. Otherwise every range up to now would have an edge.
        first, after = next_slot(start), slot_of(end)
        if folded_range.end <= end:
            after = next_slot(end)
        if start < end and first >= after:
            result.edges.append((index, Range(start, end)))
        if start >= end or first >= after:
            continue
        middle = Range(slot_start(first), min(slot_start(after), end))
        if start < middle.start:
            result.edges.append((index, Range(start, middle.start)))
        result.middles.append((index, middle))
        if middle.end < end:
            result.edges.append((index, Range(middle.end, end)))
        folded = Span(max(first, first_folded), min(after, end_folded))
        if folded.start < folded.end:
            result.gaps.append((index, folded))


def _cover_gaps(
    gaps: list[tuple[int, Span]], kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> tuple[list[tuple[int, Span]], list[tuple[int, Span]]]:
    """Return the sealed spans within gaps, the coarsest first, and the gaps that remain."""
    spans: list[tuple[int, Span]] = []
    for kind in kinds:
        candidates = [kind(gap) for _, gap in gaps]
        remaining: list[tuple[int, Span]] = []
        for (index, gap), fitting in zip(gaps, candidates, strict=True):
            sealed = list(filter(is_sealed, fitting))
            spans += [(index, span) for span in sealed]
            remaining += [(index, rest) for rest in _subtract(gap, sealed)]
        gaps = remaining
    return spans, gaps


def _subtract(gap: Span, spans: Sequence[Span]) -> Iterator[Span]:
    """Yield what remains of a gap without these spans, which are in order."""
    start = gap.start
    for span in spans:
        if start < span.start:
            yield Span(start, span.start)
        start = span.end
    if start < gap.end:
        yield Span(start, gap.end)
