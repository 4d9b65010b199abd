"""Counts of ranges from rollups and the tail, exact in one snapshot."""

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
from repo.cost import BYTES, EDGES, FEW_SETS, Cost
from repo.rollups.binary import decode
from repo.rollups.memory import Memory, Place, Row, Rows
from repo.rollups.names import Key, Names
from repo.rollups.state import SQL, State, read_users
from repo.rollups.strangers import Strangers
from repo.rollups.unions import Tally
from repo.rollups.waiting import NOT_SWEEPING, ranges_of
from utils.bitmaps import largest
from utils.plans import Kind, Plan, plan
from utils.slots import HOURS_KEPT, Span, days_in, hours_in, months_in, slot_of
from utils.timebuckets import Range

_UTC = ZoneInfo("UTC")
_WORKS = (
    "a range that is over and begins and ends with a quarter of an hour, or about one that reaches "
    "back no further"
)
WORTH_A_LOOK = 20_000
_VERY_MANY = 1_000_000
"""Events of a tail that are counted before it is read."""


Tallies = dict[Key, Tally]
"""By the key of the event name; ALL for all those that were asked for together."""


class Reader:
    """Reads for one question within one snapshot."""

    def __init__(
        self,
        cur: Cursor,
        state: State,
        memory: Memory,
        names: Names,
        query: Query,
        *,
        guarded: bool,
    ) -> None:
        tz = query.zone
        self._guarded = guarded
        self._cur = cur
        self._query_name = query.name
        self._state = state
        self._memory = memory
        self.names = names
        self._seals = memory.sealed(cur, state)
        self._strangers = Strangers()
        since = slot_of(state.folded.end) - HOURS_KEPT
        self._kinds: list[Kind] = [
            months_in,
            lambda gap: days_in(gap, tz),
            lambda gap: days_in(gap, _UTC),
            lambda gap: hours_in(Span(max(gap.start, since), gap.end)),
        ]

    def tallies(self, ranges: Sequence[Range]) -> list[Tallies]:
        """The counts of each range; they stand in order and do not overlap.

        Raises: EventsDropped, TooExpensive.
        """
        plans = [self._plan(asked) for asked in ranges]
        if self._state.horizon and self._needs_dropped(plans):
            raise EventsDropped(self._state.horizon, _WORKS)
        if self._guarded and self._may_be_large(plans):
            self._cost(plans).check(EDGES)
        counted: list[Tallies] = [defaultdict(Tally) for _ in ranges]
        self._add_tail(plans, counted)
        self._add_spans(plans, counted)
        self._add_slots(plans, counted)
        self._add_edges(plans, counted)
        return counted

    def _may_be_large(self, plans: Sequence[Plan]) -> bool:
        """Whether it is worth a look before: most questions read little."""
        if any(plan.edges for plan in plans):
            return True
        slots = sum(gap.end - gap.start for plan in plans for gap in plan.gaps)
        rows = len(self.names) * (slots + sum(len(plan.spans) for plan in plans))
        return rows > WORTH_A_LOOK or (
            rows > FEW_SETS and rows * largest(read_users(self._cur)) > BYTES
        )

    def cost(self, ranges: Sequence[Range]) -> Cost:
        """What `tallies` would read of these."""
        return self._cost([self._plan(asked) for asked in ranges])

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        """Whether slots do not tell all of these, and events are dropped that would."""
        return self._needs_dropped([self._plan(asked) for asked in ranges])

    def tail(self) -> int:
        """Events that are not folded, up to 10,000."""
        return self._tail({"start": "-infinity", "end": "infinity"}, 10_000)

    def _tail(self, within: Mapping[str, Any], most: int) -> int:
        given = {**self._state.tail, "start": within["start"], "end": within["end"], "most": most}
        self._cur.execute(SQL["rollups_tail_count"], given)
        (count,) = self._cur.fetchone() or (0,)
        return int(count)

    def _needs_dropped(self, plans: Sequence[Plan]) -> bool:
        horizon = self._state.horizon
        edges = (edge for plan in plans for edge in plan.edges)
        return horizon is not None and any(edge.start < horizon for edge in edges)

    def _cost(self, plans: Sequence[Plan]) -> Cost:
        edges = [edge for plan in plans for edge in plan.edges]
        given = {
            **self._given([span for plan in plans for span in plan.spans]),
            "gap_starts": [gap.start for plan in plans for gap in plan.gaps],
            "gap_ends": [gap.end for plan in plans for gap in plan.gaps],
            "edges": [slot for edge in edges for slot in _slots_of(edge)],
        }
        self._cur.execute(self._text("rollups_cost"), given)
        return Cost(*self._cur.fetchone() or ())

    def _plan(self, asked: Range) -> Plan:
        return plan(asked, self._state.folded, self._kinds, self._seals.__contains__)

    def _add_spans(self, plans: Sequence[Plan], counted: list[Tallies]) -> None:
        groups = [plan.spans for plan in plans]
        rows = self._span_rows([span for spans in groups for span in spans])
        for spans, tallies in zip(groups, counted, strict=True):
            for span in spans:
                for name_id, row in rows[span].items():
                    tallies[self.names.of_row(name_id)].add(row)

    def _span_rows(self, spans: Sequence[Span]) -> Mapping[Span, Rows]:
        """From memory, else from the tables."""
        places = {span: self._place(span) for span in spans}
        found = self._memory.find(places.values())
        missing = [span for span, place in places.items() if place not in found]
        read = self._read_spans(missing) if missing else {}
        return {span: found.get(place) or read.get(span, {}) for span, place in places.items()}

    def _place(self, span: Span) -> Place:
        return Place(self._state.memory_key, span, self._seals[span], self.names.scope)

    def _read_spans(self, spans: list[Span]) -> dict[Span, Rows]:
        read: dict[Span, dict[int, Row]] = {span: {} for span in spans}
        sizes = dict.fromkeys(spans, 0)
        for start, end, name_id, events, users in self._copy("rollups_spans", spans, "iiiqb"):
            read[Span(start, end)][name_id] = Row(events, BitMap.deserialize(users))
            sizes[Span(start, end)] += len(users)
        return {
            span: self._memory.keep(self._place(span), rows, sizes[span])
            for span, rows in read.items()
        }

    def _add_slots(self, plans: Sequence[Plan], counted: list[Tallies]) -> None:
        gaps = [(gap, index) for index, plan in enumerate(plans) for gap in plan.gaps]
        if not gaps:
            return
        of_slot = {slot: index for gap, index in gaps for slot in range(*gap)}
        for slot, name_id, events, users in self._copy(
            "rollups_slots", [gap for gap, _ in gaps], "iiqb"
        ):
            row = Row(events, BitMap.deserialize(users))
            counted[of_slot[slot]][self.names.of_row(name_id)].add(row)

    def _copy(self, name: str, spans: Sequence[Span], columns: str) -> list[Any]:
        sent = self._sent(self._text(name), self._given(spans))
        rows = list(decode(sent, columns))
        ROLLUP_ROWS.labels(self._query_name).inc(len(rows))
        ROLLUP_BYTES.labels(self._query_name).inc(len(sent))
        return rows

    def _sent(self, statement: str, given: dict[str, Any]) -> bytes:
        """What a COPY ... TO STDOUT gives."""
        sent = io.BytesIO()
        self._cur.copy_expert(self._cur.mogrify(statement, given).decode(), sent)
        return sent.getvalue()

    def _text(self, name: str) -> str:
        return SQL[name].replace("{names}", self.names.condition)

    def _given(self, spans: Sequence[Span]) -> dict[str, Any]:
        return {
            "generation": self._state.generation,
            "starts": [span.start for span in spans],
            "ends": [span.end for span in spans],
            "name_ids": self.names.ids,
        }

    def _add_tail(self, plans: Sequence[Plan], counted: list[Tallies]) -> None:
        middles = [(plan.middle, index) for index, plan in enumerate(plans) if plan.middle]
        if not middles or not self._state.has_tail:
            return
        edges = sorted({edge for middle, _ in middles for edge in middle})
        segments = {edge: segment for segment, edge in enumerate(edges)}
        of_segment = {segments[middle.start]: index for middle, index in middles}
        given = {"edges": edges, "start": edges[0], "end": edges[-1], **self._state.tail}
        text = SQL["rollups_tail"]
        if self._state.has_long_tail:
            text, count = self._long_tail(), self._tail(given, _VERY_MANY)
            given["many"] = count if count < _VERY_MANY else 10 * _VERY_MANY
        for segment, *found in self._found(text, given):
            if segment in of_segment:  # not between two middles, where edges are
                self._add_found(counted[of_segment[segment]], *found)

    def _long_tail(self) -> str:
        parts = [self._cur.mogrify(SQL[_part_of(ids)], ids) for ids in ranges_of(self._state.tail)]
        return SQL["rollups_long_tail"].replace("{parts}", b" or ".join(parts).decode() or "false")

    def _add_edges(self, plans: Sequence[Plan], counted: list[Tallies]) -> None:
        edges = [(index, edge) for index, plan in enumerate(plans) for edge in plan.edges]
        if not edges:
            return
        given = {
            "segments": [index for index, _ in edges],
            "starts": [edge.start for _, edge in edges],
            "ends": [edge.end for _, edge in edges],
        }
        for index, *found in self._found(SQL["rollups_edges"], given):
            self._add_found(counted[index], *found)

    def _found(self, statement: str, given: dict[str, Any]) -> list[Any]:
        shared = {"names": self.names.asked, "by_name": self.names.each}
        sent = self._sent(statement, {**given, **shared})
        found = [(index, n, name.decode(), *who) for index, n, name, *who in decode(sent, "iqbbb")]
        EVENTS_READ.labels(self._query_name).inc(sum(events for _, events, *_ in found))
        keys = self.names.of_events(name for _, _, name, *_ in found)
        return [(index, events, keys[name], *users) for index, events, name, *users in found]

    def _add_found(
        self, tallies: Tallies, events: int, key: Key, ordinals: bytes, strangers: bytes
    ) -> None:
        users = array("I", ordinals)
        if sys.byteorder == "little":
            users.byteswap()
        self._strangers.add_to(users, strangers)
        tallies[key].add(Row(events, BitMap(users)))


def _slots_of(edge: Range) -> range:
    """The slots that an edge cuts: two, where it is short and lies across a border."""
    return range(slot_of(edge.start), slot_of(edge.end - timedelta.resolution) + 1)


def _part_of(ids: Mapping[str, str]) -> str:
    is_swept = ids["swept_until"] != NOT_SWEEPING.until
    return "rollups_long_tail_rest" if is_swept else "rollups_long_tail_part"
