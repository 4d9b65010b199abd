"""Read rollups, the tail and the edges of ranges: exact partial aggregates in one snapshot."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg2 import sql
from pyroaring import BitMap

from common.metrics import EVENTS_READ, ROLLUP_BYTES, ROLLUP_ROWS
from config.database import Cursor
from repo.engine.aggregate_decoder import TemporaryOrdinals, decode_events, segments_of
from repo.engine.cardinality import PartialAggregate
from repo.engine.cost import Cost
from repo.engine.dimensions import ALL, EventNameFilter, Key
from repo.engine.plan import Cover, CoverPlan
from repo.engine.span_cache import Row, Rows, SpanCache, SpanKey
from repo.engine.tail import NO_BACKFILL, split_ranges
from repo.engine.watermark import SQL, Watermark
from repo.statements import compose
from utils.copy_binary import decode
from utils.time.calendar import Range
from utils.time.slots import Span, slot_of

# A long tail is counted up to this before it is read, for the planner's sake.
_MAX_TAIL_COUNT = 1_000_000

Partials = dict[Key, PartialAggregate]
"""Partial aggregates by the key of the event name; ALL for names that are counted together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupPlan(CoverPlan):
    """A plan to read rollups, with the event names that it counts."""

    names: EventNameFilter


class RollupReader:
    """Reads the partial aggregates of one plan, within one snapshot."""

    def __init__(
        self,
        cur: Cursor,
        watermark: Watermark,
        cache: SpanCache,
        versions: Mapping[Span, int],
        temporary_ordinals: TemporaryOrdinals,
        plan: RollupPlan,
    ) -> None:
        """`versions` are those of the sealed spans in this snapshot.

        `temporary_ordinals` are those of users without an ordinal in it.
        """
        self._cur = cur
        self._watermark = watermark
        self._cache = cache
        self._versions = versions
        self._names = plan.names
        self._cover = plan.cover
        self._question = plan.aggregation.question
        self._temporary_ordinals = temporary_ordinals
        self._partials: list[Partials] = [
            defaultdict(PartialAggregate) for _ in plan.aggregation.ranges
        ]
        self._rows = self._bytes = self._events = 0

    def read(self) -> list[Partials]:
        """Return the partial aggregates of each range."""
        # Spans, slots and edges are disjoint. The tail is added between the edges, which are read
        # from the events and so include theirs.
        if self._cover.middles and self._watermark.has_tail:
            self._add_tail(self._cover.middles)
        self._add_spans()
        if self._cover.gaps:
            self._add_slots(self._cover.gaps)
        if self._cover.edges:
            self._add_edges(self._cover.edges)
        self._count_reads()
        return self._partials

    def _count_reads(self) -> None:
        for metric, number in (
            (ROLLUP_ROWS, self._rows),
            (ROLLUP_BYTES, self._bytes),
            (EVENTS_READ, self._events),
        ):
            if number:
                metric.labels(self._question).inc(number)

    def _add_spans(self) -> None:
        by_name = self._names.by_name
        rows_by_span = self._span_rows([span for _, span in self._cover.spans])
        for index, span in self._cover.spans:
            partials = self._partials[index]
            for name_id, row in rows_by_span[span].items():
                partials[name_id if by_name else ALL].add(row)

    def _span_rows(self, spans: Sequence[Span]) -> Mapping[Span, Rows]:
        """Return rows by span, from the cache or else from the tables."""
        memory_key, scope = self._watermark.memory_key, self._names.scope
        keys = {span: SpanKey(memory_key, span, self._versions[span], scope) for span in spans}
        cached = self._cache.get_many(keys.values())
        missing = [span for span, key in keys.items() if key not in cached]
        fetched = self._read_spans(missing, keys) if missing else {}
        return {span: cached.get(key) or fetched.get(span, {}) for span, key in keys.items()}

    def _read_spans(self, spans: list[Span], keys: Mapping[Span, SpanKey]) -> dict[Span, Rows]:
        rows_by_span: dict[Span, dict[int, Row]] = {span: {} for span in spans}
        sizes = dict.fromkeys(spans, 0)
        for start, end, name_id, events, users in self._copy("rollups_spans", spans, "iiiqb"):
            rows_by_span[Span(start, end)][name_id] = Row(events, BitMap.deserialize(users))
            sizes[Span(start, end)] += len(users)
        fetched = {keys[span]: (rows, sizes[span]) for span, rows in rows_by_span.items()}
        cached = self._cache.put_many(fetched)
        return {span: cached[keys[span]] for span in spans}

    def _add_slots(self, gaps: list[tuple[int, Span]]) -> None:
        by_name = self._names.by_name
        index_of_slot = {slot: index for index, gap in gaps for slot in range(*gap)}
        spans = [gap for _, gap in gaps]
        for slot, name_id, events, users in self._copy("rollups_slots", spans, "iiqb"):
            row = Row(events, BitMap.deserialize(users))
            self._partials[index_of_slot[slot]][name_id if by_name else ALL].add(row)

    # COPY in binary form: the text form of `bytea` is twice as long and must be parsed.
    def _copy(self, name: str, spans: Sequence[Span], columns: str) -> list[Any]:
        data = self._cur.copy_out(
            _for_names(name, self._names), _span_params(self._watermark, self._names, spans)
        )
        rows = list(decode(data, columns))
        self._rows += len(rows)
        self._bytes += len(data)
        return rows

    def _add_tail(self, middles: list[tuple[int, Range]]) -> None:
        segments = segments_of(middles)
        has_long_tail, tail = self._watermark.has_long_tail, self._watermark.tail
        params = {**segments.params, **tail}
        statement = SQL["rollups_tail"]
        if has_long_tail:
            statement = self._long_tail_statement(tail)
            params["row_estimate"] = self._estimate_tail(params["start"], params["end"])
        self._add_events(statement, params, segments.indexes)

    def _estimate_tail(self, start: Any, end: Any) -> int:
        """Return how many rows the planner should expect in the tail of a range."""
        # Its statistics do not know events that were just committed. Beyond the limit they are
        # taken to be ten times as many.
        count = count_tail(self._cur, self._watermark, _MAX_TAIL_COUNT, start, end)
        return count if count < _MAX_TAIL_COUNT else 10 * _MAX_TAIL_COUNT

    def _long_tail_statement(self, tail: Mapping[str, Any]) -> str:
        parts = [
            self._cur.mogrify(SQL[_statement_for(xid_range)], xid_range).decode()
            for xid_range in split_ranges(tail)
        ]
        ranges = sql.SQL(" or ".join(parts) or "false")
        return sql.SQL(SQL["rollups_long_tail"]).format(ranges=ranges).as_string(self._cur)

    def _add_edges(self, edges: list[tuple[int, Range]]) -> None:
        params = {
            "segments": [index for index, _ in edges],
            "starts": [edge.start for _, edge in edges],
            "ends": [edge.end for _, edge in edges],
        }
        indexes = {index: index for index, _ in edges}
        self._add_events(SQL["rollups_edges"], params, indexes)

    def _add_events(
        self, statement: str, params: dict[str, Any], indexes: Mapping[int, int]
    ) -> None:
        """Add events that are read one by one; `indexes` are those of ranges by segment."""
        names = {"names": self._names.event_names, "by_name": self._names.by_name}
        data = self._cur.copy_out(statement, {**params, **names})
        rows = list(decode_events(data, self._temporary_ordinals))
        self._events += sum(event.row.events for event in rows)
        keys = self._names.keys_of_events(event.event_name for event in rows)
        for segment, name, row in rows:
            if segment in indexes:  # else it is between two middles, which edges cover
                self._partials[indexes[segment]][keys[name]].add(row)


def count_tail(
    cur: Cursor, watermark: Watermark, limit: int, start: Any = "-infinity", end: Any = "infinity"
) -> int:
    """Return the number of events of a range that are in the tail, up to a limit."""
    params = {**watermark.tail, "start": start, "end": end, "limit": limit}
    cur.execute(SQL["rollups_tail_count"], params)
    (count,) = cur.fetchone() or (0,)
    return int(count)


def read_cost(cur: Cursor, watermark: Watermark, cover: Cover, names: EventNameFilter) -> Cost:
    """Return the cost of reading the parts of a cover."""
    params = {
        **_span_params(watermark, names, [span for _, span in cover.spans]),
        "gap_starts": [gap.start for _, gap in cover.gaps],
        "gap_ends": [gap.end for _, gap in cover.gaps],
        "edge_slots": [slot for _, edge in cover.edges for slot in _slots_of(edge)],
    }
    cur.execute(_for_names("rollups_cost", names), params)
    return Cost(*cur.fetchone() or ())


def _for_names(statement: str, names: EventNameFilter) -> str:
    return compose(SQL[statement], names=names.condition)


def _span_params(
    watermark: Watermark, names: EventNameFilter, spans: Sequence[Span]
) -> dict[str, Any]:
    return {
        "generation": watermark.generation,
        "starts": [span.start for span in spans],
        "ends": [span.end for span in spans],
        "name_ids": names.ids,
    }


def _slots_of(edge: Range) -> range:
    """Return the slots that an edge cuts: one, or two for a short edge across their border."""
    return range(slot_of(edge.start), slot_of(edge.end - timedelta.resolution) + 1)


def _statement_for(xid_range: Mapping[str, str]) -> str:
    is_backfilled = xid_range["swept_until"] != NO_BACKFILL.until
    return "rollups_long_tail_backfilled_range" if is_backfilled else "rollups_long_tail_range"
