"""Seal spans that are over: store each as one row for each event name."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, chain
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.engine.plan import Kind, cover
from repo.rollups.aggregate import Delta
from repo.rollups.bitmap_rows import (
    SQL,
    copy_out,
    read_sealed_spans,
    read_spans,
    span_params,
    sum_by_name,
    write_spans,
)
from repo.rollups.fold_state import Progress
from utils.copy_binary import decode
from utils.time.slots import HOUR, LEAD, SEALED_HOURS, Span, days_in, hours_in, months_in, slot_of
from utils.time.zones import zone

# Limits of one transaction: spans, and bytes of the sets of users that it reads, which a single
# span may exceed.
_MAX_SPANS = 200
MAX_SET_BYTES = 32 * 2**20
_UTC = zone("UTC")

Parts = tuple[tuple[Span, ...], tuple[Span, ...]]
"""The sealed spans within a span, and the gaps between them."""


def sealable_range(progress: Progress) -> Span | None:
    """Return the range of slots that are over and folded; None if there are none."""
    until = progress.until
    if progress.is_backfilling:
        until = min(until, datetime.fromisoformat(progress.backfill_cursor.until))
    if progress.first_slot is None or progress.first_slot >= slot_of(until):
        return None
    return Span(progress.first_slot, slot_of(until))


def due_spans(cur: cursor, generation: int, outer: Span, zones: Sequence[ZoneInfo]) -> list[Span]:
    """Return the spans that are over and not sealed, shorter ones first."""
    outer = Span(outer.start - LEAD, outer.end)
    sealed = set(read_sealed_spans(cur, generation, outer))
    # Days are made of hours and months of days, so these must be sealed before.
    kinds = [_recent_hours, *map(_days_of, (_UTC, *zones)), months_in]
    spans = dict.fromkeys(span for kind in kinds for span in kind(outer))
    return [span for span in spans if span not in sealed]


def next_spans(cur: cursor, generation: int, spans: Sequence[Span]) -> Sequence[Span]:
    """Return the first of these spans, as many as fit into one transaction."""
    spans = spans[:_MAX_SPANS]
    if len(spans) < 2:
        return spans
    outer = Span(min(span.start for span in spans), max(span.end for span in spans))
    cur.execute(SQL["fold_slot_sizes"], {"generation": generation, **outer._asdict()})
    sizes = sorted(cur)
    slots, cumulative_sizes = (
        [slot for slot, _ in sizes],
        [0, *accumulate(int(size) for _, size in sizes)],
    )
    total_sizes = accumulate(
        cumulative_sizes[bisect_left(slots, span.end)]
        - cumulative_sizes[bisect_left(slots, span.start)]
        for span in spans
    )
    return spans[: max(1, bisect_right(list(total_sizes), MAX_SET_BYTES))]


def seal(cur: cursor, progress: Progress, spans: Sequence[Span]) -> None:
    """Write these spans, each the union of its slots, except those that are sealed already."""
    generation = progress.generation
    outer = Span(min(span.start for span in spans), max(span.end for span in spans))
    sealed = set(read_sealed_spans(cur, generation, outer))
    parts = {span: _parts(span, sealed) for span in spans if span not in sealed}
    if not parts:
        return
    source = _read_rows(cur, generation, parts.values())
    progress.version += 1
    progress.sealed_version = progress.version
    rows = {span: _merge_parts(part, source) for span, part in parts.items()}
    write_spans(cur, generation, progress.version, rows)
    _unseal_hours(cur, progress)


def _recent_hours(outer: Span) -> list[Span]:
    return hours_in(Span(max(outer.start, outer.end - SEALED_HOURS), outer.end))


def _days_of(tz: ZoneInfo) -> Kind:
    return lambda gap: days_in(gap, tz)


def _parts(span: Span, sealed: set[Span]) -> Parts:
    return cover(span, [_days_of(_UTC), hours_in], sealed.__contains__)


@dataclass(frozen=True, slots=True)
class _SourceRows:
    """Rows of shorter spans and of slots, from which spans are merged."""

    spans: dict[Span, dict[int, Delta]]
    slots: dict[int, dict[int, Delta]]
    """In order, without slots that have no events."""


def _read_rows(cur: cursor, generation: int, parts: Iterable[Parts]) -> _SourceRows:
    spans, gaps = (sorted(set(chain.from_iterable(kind))) for kind in zip(*parts, strict=True))
    slots: dict[int, dict[int, Delta]] = defaultdict(dict)
    params = {"generation": generation, **span_params(gaps)}
    rows = decode(copy_out(cur, SQL["fold_read_gaps"], params), "iiqb") if gaps else ()
    for slot, name_id, events, users in rows:
        slots[slot][name_id] = Delta(events, BitMap.deserialize(users))
    return _SourceRows(read_spans(cur, generation, spans), dict(sorted(slots.items())))


def _merge_parts(parts: Parts, source: _SourceRows) -> dict[int, Delta]:
    spans, gaps = parts
    slots = list(source.slots)
    slot_runs = (slots[bisect_left(slots, gap.start) : bisect_left(slots, gap.end)] for gap in gaps)
    rows = chain(
        (source.spans[span] for span in spans),
        (source.slots[slot] for slot in chain.from_iterable(slot_runs)),
    )
    return sum_by_name(row for part in rows for row in part.items())


def _unseal_hours(cur: cursor, progress: Progress) -> None:
    # Readers use the hours of SEALED_HOURS only; one day more is kept as a margin.
    before = slot_of(progress.until) - SEALED_HOURS - 24 * HOUR
    params = {"generation": progress.generation, "before": before, "span_length": HOUR}
    cur.execute(SQL["fold_unseal"], params)
