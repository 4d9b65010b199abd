"""The tail of columns: the events that are in no chunk yet, as a temporary chunk."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from common.errors import ColumnsBuilding, TooExpensive
from config.database import Cursor
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import concatenate
from repo.columns.chunk_table import ColumnState
from repo.columns.tied_events import Ties
from repo.engine.tail import NO_BACKFILL, NOTHING_FOLDED, Snapshot, tail_ranges
from repo.statements import compose, statements
from utils.copy_binary import decode
from utils.time.calendar import Range

SQL = statements("column_questions")

MAX_EVENTS = 100_000
"""Events that a question may read in addition to chunks."""
MAX_BYTES = 64 * 2**20
"""Bytes that the properties of these events may have, as JSON texts."""

MAX_TIES = 10_000
"""Pairs of a user and an instant whose events a question may read again for their order."""
_TIES = "pairs of a user and an instant with events in several chunks"
_TIED_EVENTS = "events, or 64 MB of properties, of the same users and instants"
_FEWER_TIES = "a shorter range"

_EVENT_BYTES = 500  # in memory, in addition to the properties
_COLUMNS = "qiqbbbb"

_NEVER = NO_BACKFILL.until
_NO_XIDS = tail_ranges(NOTHING_FOLDED, NOTHING_FOLDED)


class Backlog(NamedTuple):
    """The events that are in no chunk, as parameters of statements."""

    recent: Mapping[str, list[str]]
    """Ranges of the transactions that chunks do not hold."""
    unreached: Mapping[str, str]
    """The events that a backfill has not written yet, by snapshots, time and id."""

    @property
    def statement(self) -> str:
        """The statement that reads these events; empty if there are none."""
        parts = [
            *(["column_questions_recent_events"] if self.recent["first_xids"] else []),
            *(["column_questions_unreached_events"] if self.unreached["until"] != _NEVER else []),
        ]
        events = " union all ".join(SQL[part] for part in parts)
        return compose(SQL["column_questions_tail"], events=events) if parts else ""


_EVERYTHING = {
    "since": NOTHING_FOLDED.text,
    "to": f"{2**63 - 1}:{2**63 - 1}:",
    "until": "infinity",
    "until_id": "ffffffff-ffff-ffff-ffff-ffffffffffff",
}


def backlog(state: ColumnState | None, now: Snapshot) -> Backlog:
    """Return which events are in no chunk; without a state all are."""
    if state is None:
        # By the index on time, which suits all events of a range.
        return Backlog(_NO_XIDS, _EVERYTHING)
    unreached = {
        "since": state.backfill_since.text,
        "to": state.backfill_to.text,
        "until": state.backfilled_from,
        "until_id": state.backfilled_id,
    }
    recent = tail_ranges(now, state.snapshot) if state.has_tail else _NO_XIDS
    return Backlog(recent, unreached)


def folded_backlog(folded: Snapshot, since: Snapshot) -> Backlog:
    """Return the events that a snapshot sees and an earlier one does not."""
    return Backlog(tail_ranges(folded, since), {**_EVERYTHING, "until": _NEVER})


NameIds = Callable[[Iterable[str]], Mapping[str, int]]
"""Returns the ids of those names that have one."""


@dataclass(frozen=True)
class TailEvents:
    """Events as the snapshot has them; users and names without an id have temporary ones."""

    records: Sequence[EventRecord]
    name_ids: Mapping[str, int]
    """The ids of the names of the events, and of other names that were requested."""
    new_users: Mapping[str, int]
    """Temporary ordinals by user id."""
    has_temporary_ids: bool = False
    """Whether there are new users or new names."""
    folded: Chunk | None = None
    """Further events, which must not be changed."""

    @property
    def size(self) -> int:
        """The bytes in memory, about."""
        return sum(_EVENT_BYTES + len(each.properties) for each in self.records)

    @cached_property
    def chunk(self) -> Chunk:
        """The events as a chunk; the first use parses their properties."""
        chunk = build_chunk(self.records)
        return joined(self.folded, chunk) if self.folded else chunk


def joined(first: Chunk, second: Chunk) -> Chunk:
    """Return the events of two chunks, which have the ids of all of them."""
    return concatenate([first, second]) if len(first) and len(second) else first or second


class TailLimits(NamedTuple):
    """The largest tail that is read: events, and bytes of their properties as JSON."""

    events: int
    bytes: int


NO_LIMITS = TailLimits(2**31 - 2, 2**62)


@dataclass(frozen=True, slots=True)
class TailReader:
    """Reads the tail of columns, within one snapshot."""

    cur: Cursor
    backlog: Backlog
    horizon: datetime | None
    """The time before which events were dropped; None if none were."""
    limits: TailLimits = NO_LIMITS
    """Limits below MAX_EVENTS and MAX_BYTES."""

    def count(self, ranges: Sequence[Range]) -> int:
        """Return the number of events of ranges in the tail, up to one above the limit."""
        if not ranges:
            return 0
        self.cur.execute(SQL["column_questions_tail_count"], self._params(ranges))
        (count,) = self.cur.fetchone() or (0,)
        return int(count)

    def read(
        self, ranges: Sequence[Range], other_names: Iterable[str], name_ids: NameIds
    ) -> TailEvents:
        """Return the events of ranges, which are in order. Raises: ColumnsBuilding.

        The ids of `other_names` are returned as well, as far as there are such names.
        """
        return self._events(self._rows(ranges), other_names, name_ids)

    def _events(
        self, rows: Sequence[tuple[Any, ...]], other_names: Iterable[str], name_ids: NameIds
    ) -> TailEvents:
        names = {name for *_, name, _, _ in rows}
        known = name_ids({*other_names, *map(bytes.decode, names)})
        has_new = any(user_id or name.decode() not in known for *_, name, user_id, _ in rows)
        highest = self._read_highest() if has_new else (0, 0)
        # Cached ids may be newer than the snapshot, so they count as well.
        new_names = _Numbers(max(highest[1], *known.values(), 0))
        new_users = _Numbers(highest[0])
        ids = {name: known.get(name.decode()) or new_names[name.decode()] for name in names}
        records = [
            EventRecord(
                time,
                new_users[user_id.decode()] if user_id else ordinal,
                ids[name],
                xid,
                event_id,
                properties,
            )
            for time, ordinal, xid, event_id, name, user_id, properties in rows
        ]
        has_temporary_ids = bool(new_users or new_names)
        return TailEvents(records, {**known, **new_names}, new_users, has_temporary_ids)

    def read_ties(self, ties: Ties, snapshot: Snapshot, name_ids: NameIds) -> TailEvents:
        """Return the events of ties that a snapshot sees, also those that are in chunks.

        Raises: TooExpensive.
        """
        if ties.size > MAX_TIES:
            raise TooExpensive(_TIES, ties.size, MAX_TIES, _FEWER_TIES)
        statement = compose(
            SQL["column_questions_tail"], events=SQL["column_questions_tied_events"]
        )
        params = {
            "ordinals": ties.user.tolist(),
            "times": ties.time.tolist(),
            "snapshot": snapshot.text,
            "limit": self._limits.events + 1,
            "max_bytes": self._limits.bytes,
        }
        rows = list(decode(self.cur.copy_out(statement, params), _COLUMNS))
        if self._are_too_many(rows):
            raise TooExpensive(_TIED_EVENTS, len(rows), self._limits.events, _FEWER_TIES)
        return self._events(rows, (), name_ids)

    def _rows(self, ranges: Sequence[Range]) -> list[tuple[Any, ...]]:
        statement = self.backlog.statement
        if not statement or not ranges:
            return []
        rows = list(decode(self.cur.copy_out(statement, self._params(ranges)), _COLUMNS))
        if self._are_too_many(rows):
            raise self._building()
        return rows

    def _are_too_many(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        max_events, max_bytes = self._limits
        return len(rows) > max_events or sum(len(row[-1]) for row in rows) >= max_bytes

    @property
    def _limits(self) -> TailLimits:
        events, size = self.limits
        return TailLimits(min(events, MAX_EVENTS), min(size, MAX_BYTES))

    def _params(self, ranges: Sequence[Range]) -> dict[str, Any]:
        return {
            **self.backlog.recent,
            **self.backlog.unreached,
            "starts": [each.start for each in ranges],
            "ends": [each.end for each in ranges],
            "start": ranges[0].start,
            "end": ranges[-1].end,
            "horizon": self.horizon or "-infinity",
            "limit": self._limits.events + 1,
            "max_bytes": self._limits.bytes,
        }

    def _read_highest(self) -> tuple[int, int]:
        """Return the highest ordinal and the highest id of a name that were ever in use."""
        self.cur.execute(SQL["column_questions_highest_ids"])
        ordinal, name_id = self.cur.fetchone() or (0, 0)
        return int(ordinal), int(name_id)

    def _building(self) -> ColumnsBuilding:
        self.cur.execute(SQL["column_questions_written_part"])
        written, stored = self.cur.fetchone() or (0, 0)
        return ColumnsBuilding(int(written), int(stored))


class _Numbers(dict[str, int]):
    """Numbers texts in the order of their first use."""

    def __init__(self, highest: int) -> None:
        super().__init__()
        self._highest = highest

    def __missing__(self, text: str) -> int:
        number = self[text] = self._highest + len(self) + 1
        return number
