"""Sealing: spans whose time is over are kept as one row for each name."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, chain
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.rollups.batch import Delta
from repo.rollups.binary import decode
from repo.rollups.fold import Progress
from repo.rollups.tables import SQL, copied, edges, read_spans, sealed_in, summed, write_spans
from utils.plans import Kind, covered
from utils.slots import HOUR, HOURS_KEPT, LEAD, Span, days_in, hours_in, months_in, slot_of
from utils.zones import zone

_AT_ONCE = 200
"""Spans of one transaction."""
BYTES = 32 * 2**20
"""Of the sets of users that are read for it, unless one span has more."""
_UTC = zone("UTC")

Parts = tuple[tuple[Span, ...], tuple[Span, ...]]
"""The sealed spans that a span is made of, and the gaps between them."""


def over(progress: Progress) -> Span | None:
    """The slots that can be sealed."""
    until = progress.until
    if progress.is_sweeping:
        until = min(until, datetime.fromisoformat(progress.swept.until))
    if progress.first_slot is None or progress.first_slot >= slot_of(until):
        return None
    return Span(progress.first_slot, slot_of(until))


def due(cur: cursor, generation: int, whole: Span, zones: Sequence[ZoneInfo]) -> list[Span]:
    """Spans that are over and not sealed; those that others are made of come first."""
    whole = Span(whole.start - LEAD, whole.end)
    sealed = set(sealed_in(cur, generation, whole))
    kinds = [_recent_hours, *map(_days, (_UTC, *zones)), months_in]
    wanted = dict.fromkeys(span for kind in kinds for span in kind(whole))
    return [span for span in wanted if span not in sealed]


def next_of(cur: cursor, generation: int, spans: Sequence[Span]) -> Sequence[Span]:
    """The first of them, as many as one transaction has memory for."""
    spans = spans[:_AT_ONCE]
    if len(spans) < 2:
        return spans
    whole = Span(min(span.start for span in spans), max(span.end for span in spans))
    cur.execute(SQL["fold_sizes"], {"generation": generation, **whole._asdict()})
    sizes = sorted(cur)
    slots, before = [slot for slot, _ in sizes], [0, *accumulate(int(size) for _, size in sizes)]
    bytes_ = accumulate(
        before[bisect_left(slots, span.end)] - before[bisect_left(slots, span.start)]
        for span in spans
    )
    return spans[: max(1, bisect_right(list(bytes_), BYTES))]


def seal(cur: cursor, progress: Progress, spans: Sequence[Span]) -> None:
    """Write these spans, each the union of what it holds; another folder may have sealed some."""
    generation = progress.generation
    whole = Span(min(span.start for span in spans), max(span.end for span in spans))
    sealed = set(sealed_in(cur, generation, whole))
    parts = {span: _parts(span, sealed) for span in spans if span not in sealed}
    if not parts:
        return
    found = _read(cur, generation, parts.values())
    progress.version += 1
    progress.sealed = progress.version
    made = {span: _made(part, found) for span, part in parts.items()}
    write_spans(cur, generation, progress.version, made)
    _unseal_hours(cur, progress)


def _recent_hours(whole: Span) -> Iterator[Span]:
    return hours_in(Span(max(whole.start, whole.end - HOURS_KEPT), whole.end))


def _days(tz: ZoneInfo) -> Kind:
    return lambda gap: days_in(gap, tz)


def _parts(span: Span, sealed: set[Span]) -> Parts:
    return covered(span, [_days(_UTC), hours_in], sealed.__contains__)


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to make spans of."""

    spans: dict[Span, dict[int, Delta]]
    slots: dict[int, dict[int, Delta]]
    """In order; those without events are left out."""


def _read(cur: cursor, generation: int, parts: Iterable[Parts]) -> _Found:
    spans, gaps = (sorted(set(chain.from_iterable(kind))) for kind in zip(*parts, strict=True))
    slots: dict[int, dict[int, Delta]] = defaultdict(dict)
    given = {"generation": generation, **edges(gaps)}
    rows = decode(copied(cur, SQL["fold_read_gaps"], given), "iiqb") if gaps else ()
    for slot, name_id, events, users in rows:
        slots[slot][name_id] = Delta(events, BitMap.deserialize(users))
    return _Found(read_spans(cur, generation, spans), dict(sorted(slots.items())))


def _made(parts: Parts, found: _Found) -> dict[int, Delta]:
    spans, gaps = parts
    slots = list(found.slots)
    held = (slots[bisect_left(slots, gap.start) : bisect_left(slots, gap.end)] for gap in gaps)
    rows = chain(
        (found.spans[span] for span in spans),
        (found.slots[slot] for slot in chain.from_iterable(held)),
    )
    return summed(row for part in rows for row in part.items())


def _unseal_hours(cur: cursor, progress: Progress) -> None:
    """Readers look for hours of a shorter time only."""
    before = slot_of(progress.until) - HOURS_KEPT - 24 * HOUR
    given = {"generation": progress.generation, "before": before, "length": HOUR}
    cur.execute(SQL["fold_unseal"], given)
