"""Read rollups, the tail and the edges of ranges: exact counts within one snapshot."""

import io
import sys
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pyroaring import BitMap

from common.errors import EventsDropped
from common.metrics import EVENTS_READ, ROLLUP_BYTES, ROLLUP_ROWS
from common.query import Query
from config.database import Cursor
from repo.engine.bitmaps import max_bytes
from repo.engine.cardinality import PartialAggregate
from repo.engine.cost import FEW_SETS, MAX_BYTES, MAX_EDGE_EVENTS, Cost
from repo.engine.dimensions import EventNameFilter, Key
from repo.engine.planner import Kind, Plan, plan
from repo.engine.span_cache import Row, Rows, SpanCache, SpanKey
from repo.engine.tail import NO_BACKFILL, split_ranges
from repo.engine.watermark import SQL, Watermark, read_user_count
from utils.copy_binary import decode
from utils.time.calendar import Range
from utils.time.slots import SEALED_HOURS, Span, days_in, hours_in, months_in, slot_of

_UTC = ZoneInfo("UTC")
_ALTERNATIVES = (
    "a range that has ended and begins and ends with a quarter of an hour, or about one from that "
    "time on"
)
# Up to this many rows a query is cheap, and runs without a look at its cost (0.2 ms).
COST_CHECK_ROWS = 20_000

# A long tail is counted up to this before it is read, for the planner's sake.
_MAX_TAIL_COUNT = 1_000_000


Partials = dict[Key, PartialAggregate]
"""Partial aggregates by the key of the event name; ALL for names that are counted together."""


class RollupReader:
    """Reads the rows of one query, within one snapshot."""

    def __init__(
        self,
        cur: Cursor,
        watermark: Watermark,
        cache: SpanCache,
        name_filter: EventNameFilter,
        query: Query,
        *,
        is_guarded: bool,
    ) -> None:
        tz = query.zone
        self._is_guarded = is_guarded
        self._cur = cur
        self._query_name = query.name
        self._watermark = watermark
        self._cache = cache
        self.name_filter = name_filter
        self._span_versions = cache.sealed_versions(cur, watermark)
        self._temporary_ordinals = TemporaryOrdinals()
        oldest_hour = slot_of(watermark.folded_range.end) - SEALED_HOURS
        # Coarsest first. Older hours may have been deleted.
        self._kinds: list[Kind] = [
            months_in,
            lambda gap: days_in(gap, tz),
            lambda gap: days_in(gap, _UTC),
            lambda gap: hours_in(Span(max(gap.start, oldest_hour), gap.end)),
        ]

    def partials(self, ranges: Sequence[Range]) -> list[Partials]:
        """Return the counts of each range; ranges are in order and do not overlap.

        Raises: EventsDropped, TooExpensive.
        """
        # Both checks come before the first read, so that a refused query costs nothing.
        plans = [self._plan(time_range) for time_range in ranges]
        if self._watermark.horizon and self._needs_dropped(plans):
            raise EventsDropped(self._watermark.horizon, _ALTERNATIVES)
        if self._is_guarded and self._may_be_large(plans):
            self._cost_of(plans).check(MAX_EDGE_EVENTS)
        # Spans, slots and edges are disjoint. The tail is added between the edges, which are read
        # from the events and so include theirs.
        partials: list[Partials] = [defaultdict(PartialAggregate) for _ in ranges]
        self._add_tail(plans, partials)
        self._add_spans(plans, partials)
        self._add_slots(plans, partials)
        self._add_edges(plans, partials)
        return partials

    def _may_be_large(self, plans: Sequence[Plan]) -> bool:
        """Return whether to look up the cost before reading; most queries read little."""
        if any(plan.edges for plan in plans):
            return True
        slots = sum(gap.end - gap.start for plan in plans for gap in plan.gaps)
        rows = len(self.name_filter) * (slots + sum(len(plan.spans) for plan in plans))
        return rows > COST_CHECK_ROWS or (
            rows > FEW_SETS and rows * max_bytes(read_user_count(self._cur)) > MAX_BYTES
        )

    def cost(self, ranges: Sequence[Range]) -> Cost:
        """Return what `partials` would read for these ranges."""
        return self._cost_of([self._plan(time_range) for time_range in ranges])

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        """Return whether the ranges have edges before the horizon, whose events were dropped."""
        return self._needs_dropped([self._plan(time_range) for time_range in ranges])

    def tail(self) -> int:
        """Return the number of events in the tail, up to 10,000."""
        return self._count_tail({"start": "-infinity", "end": "infinity"}, 10_000)

    def _count_tail(self, bounds: Mapping[str, Any], limit: int) -> int:
        params = {
            **self._watermark.tail,
            "start": bounds["start"],
            "end": bounds["end"],
            "limit": limit,
        }
        self._cur.execute(SQL["rollups_tail_count"], params)
        (count,) = self._cur.fetchone() or (0,)
        return int(count)

    def _needs_dropped(self, plans: Sequence[Plan]) -> bool:
        horizon = self._watermark.horizon
        edges = (edge for plan in plans for edge in plan.edges)
        return horizon is not None and any(edge.start < horizon for edge in edges)

    def _cost_of(self, plans: Sequence[Plan]) -> Cost:
        edges = [edge for plan in plans for edge in plan.edges]
        params = {
            **self._span_params([span for plan in plans for span in plan.spans]),
            "gap_starts": [gap.start for plan in plans for gap in plan.gaps],
            "gap_ends": [gap.end for plan in plans for gap in plan.gaps],
            "edge_slots": [slot for edge in edges for slot in _slots_of(edge)],
        }
        self._cur.execute(self._statement("rollups_cost"), params)
        return Cost(*self._cur.fetchone() or ())

    def _plan(self, time_range: Range) -> Plan:
        return plan(
            time_range, self._watermark.folded_range, self._kinds, self._span_versions.__contains__
        )

    def _add_spans(self, plans: Sequence[Plan], partials: list[Partials]) -> None:
        groups = [plan.spans for plan in plans]
        rows = self._span_rows([span for spans in groups for span in spans])
        for spans, range_partials in zip(groups, partials, strict=True):
            for span in spans:
                for name_id, row in rows[span].items():
                    range_partials[self.name_filter.key_of_row(name_id)].add(row)

    def _span_rows(self, spans: Sequence[Span]) -> Mapping[Span, Rows]:
        """Return rows by span, from the cache or else from the tables."""
        keys = {span: self._span_key(span) for span in spans}
        cached = self._cache.get_many(keys.values())
        missing = [span for span, key in keys.items() if key not in cached]
        fetched = self._read_spans(missing) if missing else {}
        return {span: cached.get(key) or fetched.get(span, {}) for span, key in keys.items()}

    def _span_key(self, span: Span) -> SpanKey:
        return SpanKey(
            self._watermark.memory_key, span, self._span_versions[span], self.name_filter.scope
        )

    def _read_spans(self, spans: list[Span]) -> dict[Span, Rows]:
        rows_by_span: dict[Span, dict[int, Row]] = {span: {} for span in spans}
        sizes = dict.fromkeys(spans, 0)
        for start, end, name_id, events, users in self._copy("rollups_spans", spans, "iiiqb"):
            rows_by_span[Span(start, end)][name_id] = Row(events, BitMap.deserialize(users))
            sizes[Span(start, end)] += len(users)
        return {
            span: self._cache.put(self._span_key(span), rows, sizes[span])
            for span, rows in rows_by_span.items()
        }

    def _add_slots(self, plans: Sequence[Plan], partials: list[Partials]) -> None:
        gaps = [(gap, index) for index, plan in enumerate(plans) for gap in plan.gaps]
        if not gaps:
            return
        index_of_slot = {slot: index for gap, index in gaps for slot in range(*gap)}
        for slot, name_id, events, users in self._copy(
            "rollups_slots", [gap for gap, _ in gaps], "iiqb"
        ):
            row = Row(events, BitMap.deserialize(users))
            partials[index_of_slot[slot]][self.name_filter.key_of_row(name_id)].add(row)

    # COPY in binary form: the text form of `bytea` is twice as long and must be parsed.
    def _copy(self, name: str, spans: Sequence[Span], columns: str) -> list[Any]:
        data = self._copy_out(self._statement(name), self._span_params(spans))
        rows = list(decode(data, columns))
        ROLLUP_ROWS.labels(self._query_name).inc(len(rows))
        ROLLUP_BYTES.labels(self._query_name).inc(len(data))
        return rows

    def _copy_out(self, statement: str, params: dict[str, Any]) -> bytes:
        """Return the output of a `COPY ... TO STDOUT`."""
        buffer = io.BytesIO()
        self._cur.copy_expert(self._cur.mogrify(statement, params).decode(), buffer)
        return buffer.getvalue()

    def _statement(self, name: str) -> str:
        return SQL[name].replace("{names}", self.name_filter.condition)

    def _span_params(self, spans: Sequence[Span]) -> dict[str, Any]:
        return {
            "generation": self._watermark.generation,
            "starts": [span.start for span in spans],
            "ends": [span.end for span in spans],
            "name_ids": self.name_filter.ids,
        }

    def _add_tail(self, plans: Sequence[Plan], partials: list[Partials]) -> None:
        middles = [(plan.middle, index) for index, plan in enumerate(plans) if plan.middle]
        if not middles or not self._watermark.has_tail:
            return
        # One statement reads the tail of all ranges: PostgreSQL numbers the segments between the
        # sorted edges, and a series has one for each bucket.
        edges = sorted({edge for middle, _ in middles for edge in middle})
        segments = {edge: segment for segment, edge in enumerate(edges)}
        index_of_segment = {segments[middle.start]: index for middle, index in middles}
        params = {"edges": edges, "start": edges[0], "end": edges[-1], **self._watermark.tail}
        statement = SQL["rollups_tail"]
        if self._watermark.has_long_tail:
            statement, count = (
                self._long_tail_statement(),
                self._count_tail(params, _MAX_TAIL_COUNT),
            )
            # How many rows the planner expects: its statistics do not know events that were just
            # committed. Beyond the limit they are taken to be ten times as many.
            params["row_estimate"] = count if count < _MAX_TAIL_COUNT else 10 * _MAX_TAIL_COUNT
        for segment, *row in self._read_events(statement, params):
            if segment in index_of_segment:  # else it is between two middles, which edges cover
                self._add_row(partials[index_of_segment[segment]], *row)

    def _long_tail_statement(self) -> str:
        parts = [
            self._cur.mogrify(SQL[_statement_for(xid_range)], xid_range)
            for xid_range in split_ranges(self._watermark.tail)
        ]
        return SQL["rollups_long_tail"].replace("{ranges}", b" or ".join(parts).decode() or "false")

    def _add_edges(self, plans: Sequence[Plan], partials: list[Partials]) -> None:
        edges = [(index, edge) for index, plan in enumerate(plans) for edge in plan.edges]
        if not edges:
            return
        params = {
            "segments": [index for index, _ in edges],
            "starts": [edge.start for _, edge in edges],
            "ends": [edge.end for _, edge in edges],
        }
        for index, *row in self._read_events(SQL["rollups_edges"], params):
            self._add_row(partials[index], *row)

    def _read_events(self, statement: str, params: dict[str, Any]) -> list[Any]:
        shared = {"names": self.name_filter.event_names, "by_name": self.name_filter.by_name}
        data = self._copy_out(statement, {**params, **shared})
        rows = [(index, n, name.decode(), *who) for index, n, name, *who in decode(data, "iqbbb")]
        EVENTS_READ.labels(self._query_name).inc(sum(events for _, events, *_ in rows))
        keys = self.name_filter.keys_of_events(name for _, _, name, *_ in rows)
        return [(index, events, keys[name], *users) for index, events, name, *users in rows]

    def _add_row(
        self, partials: Partials, events: int, key: Key, ordinals: bytes, user_ids: bytes
    ) -> None:
        users = array("I", ordinals)  # PostgreSQL sends them in network byte order
        if sys.byteorder == "little":
            users.byteswap()
        self._temporary_ordinals.add_to(users, user_ids)
        partials[key].add(Row(events, BitMap(users)))


def _slots_of(edge: Range) -> range:
    """Return the slots that an edge cuts: one, or two for a short edge across their border."""
    return range(slot_of(edge.start), slot_of(edge.end - timedelta.resolution) + 1)


def _statement_for(xid_range: Mapping[str, str]) -> str:
    is_backfilled = xid_range["swept_until"] != NO_BACKFILL.until
    return "rollups_long_tail_backfilled_range" if is_backfilled else "rollups_long_tail_range"


_FIRST = 2**31  # beyond all ordinals, which are positive integers of 4 bytes

# The interpreter's lock is held while a chunk is looked up, so chunks are short.
_CHUNK_BYTES = 2**16


class TemporaryOrdinals(dict[bytes, int]):
    """Ordinals for users that have none yet, valid for one query, by user id."""

    def __missing__(self, user_id: bytes) -> int:
        ordinal = self[user_id] = _FIRST + len(self)
        return ordinal

    def add_to(self, users: "array[int]", user_ids: bytes) -> None:
        """Append the ordinals of user ids, each of which ends with a zero byte and may repeat."""
        start = 0
        while start < len(user_ids):
            end = user_ids.index(b"\0", min(start + _CHUNK_BYTES, len(user_ids) - 1))
            users.extend(map(self.__getitem__, user_ids[start:end].split(b"\0")))
            start = end + 1
