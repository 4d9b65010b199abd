"""Plan which rows of rollups cover ranges: the coarsest sealed spans that fit, then slots."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from utils.time.calendar import Range
from utils.time.slots import Span, next_slot, slot_of, slot_start

Kind = Callable[[Span], Sequence[Span]]
"""Returns the spans of one kind, such as days, within another span, in order."""


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
