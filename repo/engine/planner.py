"""Which rows answer a range: the coarsest that fit. A pure function, tested by its properties."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from utils.time.calendar import Range
from utils.time.slots import Span, slot_of, slot_start

Kind = Callable[[Span], Iterator[Span]]
"""The spans of one kind, such as days, that lie within another span, in order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a range is made of: each moment of it is in just one part."""

    edges: tuple[Range, ...]
    """Finer than a slot: counted from the events themselves."""
    middle: Range | None
    """The rest; what is not folded yet of it is added from the events."""
    spans: tuple[Span, ...]
    """The sealed parts of the middle."""
    gaps: tuple[Span, ...]
    """The other parts of the middle, to be read slot by slot."""


def plan(
    time_range: Range, folded_range: Range, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> Plan:
    """How to count a range; `kinds` are the spans that would help, the coarsest first.

    Slots hold events of the `folded` range alone: a range that ends later may take all of the slot
    that its end cuts.
    """
    if time_range.start >= time_range.end:
        return Plan((), None, (), ())
    first, after = _slot_from(time_range.start), slot_of(time_range.end)
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
    """The first slot that does not begin before the moment."""
    slot = slot_of(instant)
    return slot + (slot_start(slot) < instant)


def cover(
    outer: Span, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Sealed spans that do not overlap, and what they leave."""
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
    """What is left of the gap; the spans taken stand in order."""
    start = gap.start
    for span in spans:
        if start < span.start:
            yield Span(start, span.start)
        start = span.end
    if start < gap.end:
        yield Span(start, gap.end)
