"""Which rows answer a range: the coarsest that fit. A pure function, tested by its properties."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from utils.slots import Span, slot_of, slot_start
from utils.timebuckets import Range

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
    asked: Range, folded: Range, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> Plan:
    """How to count a range; `kinds` are the spans that would help, the coarsest first.

    Slots hold events of the `folded` range alone: a range that ends later may take all of the slot
    that its end cuts.
    """
    if asked.start >= asked.end:
        return Plan((), None, (), ())
    first, after = _slot_from(asked.start), slot_of(asked.end)
    if folded.end <= asked.end:
        after = _slot_from(asked.end)
    if first >= after:
        return Plan((asked,), None, (), ())
    middle = Range(slot_start(first), min(slot_start(after), asked.end))
    edges = (Range(asked.start, middle.start), Range(middle.end, asked.end))
    known = Span(max(first, slot_of(folded.start)), min(after, _slot_from(folded.end)))
    spans, gaps = covered(known, kinds, is_sealed)
    return Plan(tuple(edge for edge in edges if edge.start < edge.end), middle, spans, gaps)


def _slot_from(moment: datetime) -> int:
    """The first slot that does not begin before the moment."""
    slot = slot_of(moment)
    return slot + (slot_start(slot) < moment)


def covered(
    whole: Span, kinds: Sequence[Kind], is_sealed: Callable[[Span], bool]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Sealed spans that do not overlap, and what they leave."""
    taken: list[Span] = []
    gaps = [whole] if whole.start < whole.end else []
    for kind in kinds:
        left: list[Span] = []
        for gap in gaps:
            sealed = [span for span in kind(gap) if is_sealed(span)]
            taken += sealed
            left += _without(gap, sealed)
        gaps = left
    return tuple(taken), tuple(gaps)


def _without(gap: Span, taken: Sequence[Span]) -> Iterator[Span]:
    """What is left of the gap; the spans taken stand in order."""
    at = gap.start
    for span in taken:
        if at < span.start:
            yield Span(at, span.start)
        at = span.end
    if at < gap.end:
        yield Span(at, gap.end)
