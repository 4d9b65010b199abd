"""Plan which rows of rollups cover a range: the coarsest sealed spans that fit, then slots."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from utils.time.calendar import Range
from utils.time.slots import Span, slot_of, slot_start

Kind = Callable[[Span], Iterator[Span]]
"""Yields the spans of one kind, such as days, within another span, in order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A partition of a range: each instant is in exactly one part."""

    edges: tuple[Range, ...]
    """Parts that are finer than a slot, counted from the events."""
    middle: Range | None
    """The part between the edges; its tail is added from the events."""
    spans: tuple[Span, ...]
    """The sealed parts of the middle."""
    gaps: tuple[Span, ...]
    """The other parts of the middle, read slot by slot."""


def plan(
    time_range: Range, folded_range: Range, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> Plan:
    """Return how to count a range; `kinds` are the kinds of spans to use, the coarsest first."""
    if time_range.start >= time_range.end:
        return Plan((), None, (), ())
    first, after = _slot_from(time_range.start), slot_of(time_range.end)
    # Slots hold no events after `folded_range`, so a range that ends later can use the whole slot
    # that contains its end. Otherwise every range up to now would have an edge.
    if folded_range.end <= time_range.end:
        after = _slot_from(time_range.end)
    if first >= after:
        return Plan((time_range,), None, (), ())
    middle = Range(slot_start(first), min(slot_start(after), time_range.end))
    edges = (Range(time_range.start, middle.start), Range(middle.end, time_range.end))
    folded_span = Span(
        max(first, slot_of(folded_range.start)), min(after, _slot_from(folded_range.end))
    )
    spans, gaps = cover(folded_span, kinds, is_sealed)
    return Plan(tuple(edge for edge in edges if edge.start < edge.end), middle, spans, gaps)


def _slot_from(instant: datetime) -> int:
    """Return the first slot that does not begin before `instant`."""
    slot = slot_of(instant)
    return slot + (slot_start(slot) < instant)


def cover(
    outer: Span, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Return disjoint sealed spans within `outer`, the coarsest first, and the gaps that remain."""
    sealed_spans: list[Span] = []
    gaps = [outer] if outer.start < outer.end else []
    for kind in kinds:
        remaining: list[Span] = []
        for gap in gaps:
            sealed = [span for span in kind(gap) if is_sealed(span)]
            sealed_spans += sealed
            remaining += _subtract(gap, sealed)
        gaps = remaining
    return tuple(sealed_spans), tuple(gaps)


def _subtract(gap: Span, spans: Sequence[Span]) -> Iterator[Span]:
    """Yield what remains of a gap without these spans, which are in order."""
    start = gap.start
    for span in spans:
        if start < span.start:
            yield Span(start, span.start)
        start = span.end
    if start < gap.end:
        yield Span(start, gap.end)
