"""Read columns and their tail in one snapshot, and evaluate scans of them without it."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np

from common.errors import Fault, InvalidParameter, format_instant
from common.filters import AnyOf, Condition, Name
from common.metrics import EVENTS_READ
from common.questions.answer import Checkpoint
from common.remarks import Remarks, Unknown
from config.database import Cursor
from repo.columns.cache import COLUMN_CACHE, ChunkColumns, ColumnCache, OpenedColumns
from repo.columns.chunk import Chunk, Column, ColumnKey
from repo.columns.chunk_table import (
    ALL_PATHS,
    ChunkRow,
    ColumnState,
    Path,
    read_chunks,
    read_column_bytes,
    read_erased_users,
    read_paths,
    read_state,
)
from repo.columns.codec import FIELDS, StoredKey, field_key, property_key
from repo.columns.column_tail import SQL, TailEvents, TailReader, backlog
from repo.columns.filter_evaluation import (
    EventFields,
    IdSet,
    field_conditions,
    matching_ids,
    notes,
    paths_of,
)
from repo.columns.property_collector import is_too_long
from repo.engine.cost import Cost
from repo.engine.dimensions import EventNameDictionary
from repo.engine.plan import Plan
from repo.engine.scan import Collector, Scan, Scanner
from repo.engine.tail import NOTHING_FOLDED
from repo.engine.timeline import Timeline, instant
from repo.engine.watermark import SQL as ROLLUPS
from repo.engine.watermark import Watermark, format_cache_version
from repo.hide_from_pg_stat_activity import Hidden
from utils.time.calendar import Range

KIND = "columns"
_EVENT_NAMES = EventNameDictionary()
_CANDIDATES = {
    "": "column_questions_users_equal",
    "^": "column_questions_users_with_prefix",
    "~": "column_questions_users_containing",
}
"""The statement that returns users by the kind of a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnPlan(Plan):
    """A plan to read columns of chunks, and the events that are in no chunk."""

    scan: Scan
    state: ColumnState | None
    chunks: Sequence[ChunkRow]
    paths: Mapping[Path, int]
    """The ids of those properties of the scan that have columns."""
    unread_bytes: int = 0
    """Bytes of columns that must be read from PostgreSQL, where the plan is explained."""

    @property
    def generation(self) -> int:
        return self.state.generation if self.state else 0

    @property
    def property_keys(self) -> dict[ColumnKey, StoredKey]:
        """The columns of properties that the scan reads."""
        return {
            key: property_key(path_id, key.kind)
            for key in self.scan.column_keys
            if (path_id := self.paths.get(key.path))
        }


class ColumnReader:
    """Reads columns for scans, within one snapshot."""

    def __init__(
        self,
        cur: Cursor,
        watermark: Watermark | None,
        horizon: datetime | None,
        cache: ColumnCache = COLUMN_CACHE,
    ) -> None:
        """`horizon` is the time before which events were dropped; None if none were."""
        self._cur = cur
        self._watermark = watermark
        self._horizon = horizon
        self._cache = cache

    @property
    def cache_version(self) -> str | None:
        """The cache version of the query's months; None if late events are not tracked."""
        if self._watermark is None:
            return None
        return format_cache_version(self._watermark.lineage, self._watermark.changed_version)

    def plan(self, scan: Scan, *, explain: bool = False) -> ColumnPlan:
        """Return what a scan reads, without reading it. Raises: InvalidParameter.

        With `explain` the plan has the length of the tail, and the bytes that are not cached.
        """
        ranges = _nonempty(scan.ranges)
        state = self._read_state()
        chunks = self._chunks(state, ranges)
        paths = self._paths(state, scan, chunks if ranges else None)
        horizon = _dropped_before(state, self._horizon, has_paths=bool(scan.all_paths))
        plan = ColumnPlan(
            source=KIND,
            scan=scan,
            cost=Cost(column_rows=sum(chunk.events for chunk in chunks)),
            allowed_events=0,
            tail=self._tail(state).count(ranges) if explain else 0,
            horizon=horizon,
            needs_dropped=bool(horizon and ranges and ranges[0].start < horizon),
            alternatives=scan.alternatives.format(horizon=format_instant(horizon))
            if horizon
            else "",
            state=state,
            chunks=chunks,
            paths=paths,
        )
        return replace(plan, unread_bytes=self._unread_bytes(plan)) if explain else plan

    def read(self, plan: ColumnPlan, collector: Collector) -> "ScanEvaluation":
        """Return the evaluation of a plan, which gives the events to the collector."""
        scan, ranges = plan.scan, _nonempty(plan.scan.ranges)
        names = {*(scan.event_names or ()), *_event_texts(scan)}
        tail = self._tail(plan.state).read(ranges, names, self._name_ids)
        EVENTS_READ.labels(scan.question).inc(len(tail.records))
        erased = read_erased_users(self._cur) if plan.chunks else []
        evaluation = ScanEvaluation(
            plan=plan,
            columns=self._columns(plan.state),
            tail=tail,
            scanner=Scanner(
                scan,
                collector,
                self._fields(scan, tail),
                _name_ids(scan, tail),
                IdSet(erased) if erased else None,
            ),
            unknown_events=sorted(names - tail.name_ids.keys()),
        )
        for chunk_ids, keys in _needed_columns(plan):
            evaluation.columns.read(
                self._cur, plan.generation, chunk_ids, keys, evaluation.scan_chunks
            )
        return evaluation

    def names(self, tail: TailEvents) -> dict[int, str]:
        """Return all event names by their ids, with the temporary ids of a tail."""
        self._cur.execute(SQL["column_questions_all_names"])
        ids = {**dict(self._cur.fetchall()), **tail.name_ids}
        return {name_id: name for name, name_id in ids.items()}

    def _fields(self, scan: Scan, tail: TailEvents) -> EventFields:
        return EventFields(
            {
                condition: self._matching_ids(condition, tail)
                for part in scan.all_filters
                for condition in field_conditions(part)
            }
        )

    def _tail(self, state: ColumnState | None) -> TailReader:
        now = self._watermark.now if self._watermark else NOTHING_FOLDED
        return TailReader(self._cur, backlog(state, now), self._horizon)

    def _read_state(self) -> ColumnState | None:
        return read_state(self._cur, self._watermark.generation) if self._watermark else None

    def _chunks(self, state: ColumnState | None, ranges: Sequence[Range]) -> list[ChunkRow]:
        if state is None or not ranges:
            return []
        timeline = Timeline(ranges)
        chunks = read_chunks(self._cur, state.generation, ranges[0].start, ranges[-1].end)
        return [chunk for chunk in chunks if timeline.overlaps(chunk.first, chunk.last)]

    def _paths(
        self, state: ColumnState | None, scan: Scan, chunks: Sequence[ChunkRow] | None
    ) -> dict[Path, int]:
        """Return the ids of the properties of a scan that have columns.

        Raises: InvalidParameter if one may be missing in chunks.
        """
        paths = scan.all_paths
        if not paths:
            return {}
        registered = read_paths(self._cur, state.generation, paths) if state else {}
        if chunks is not None:
            ids = {path: registered.get(path, ALL_PATHS) for path in paths}
            _refuse_left_out(chunks, ids, scan)
        return registered

    def _columns(self, state: ColumnState | None) -> ChunkColumns:
        memory_key = self._watermark.memory_key if self._watermark else ""
        return ChunkColumns(self._cache, memory_key, state.version if state else 0)

    def _unread_bytes(self, plan: ColumnPlan) -> int:
        """Return the size of the columns of a plan that are not cached."""
        columns = self._columns(plan.state)
        return sum(
            read_column_bytes(self._cur, plan.generation, missing_ids, missing)
            for chunk_ids, keys in _needed_columns(plan)
            for missing, missing_ids in columns.missing(chunk_ids, keys).items()
        )

    def _name_ids(self, names: Iterable[str]) -> Mapping[str, int]:
        if self._watermark:
            return _EVENT_NAMES.ids(self._cur, self._watermark.memory_key, names)
        self._cur.execute(ROLLUPS["rollups_name_ids"], {"names": list(names)})
        return dict(self._cur.fetchall())

    def _matching_ids(self, condition: Condition, tail: TailEvents) -> IdSet:
        """Return the ids of the names or users that a condition on a field of events matches."""
        test = condition.test
        assert isinstance(test, AnyOf), "only these conditions need ids"
        if condition.name.field == "event":
            return matching_ids(test, {**self._all_names(test), **tail.name_ids})
        return matching_ids(test, {**self._candidates(test), **tail.new_users})

    def _all_names(self, test: AnyOf) -> dict[str, int]:
        """Return the ids of all names, where a test needs them."""
        if not test.kind:
            return {}
        self._cur.execute(SQL["column_questions_all_names"])
        return dict(self._cur.fetchall())

    def _candidates(self, test: AnyOf) -> dict[str, int]:
        """Return the ordinals of all users that a test may match, by user id."""
        texts = [text for text in test.values if isinstance(text, str)]
        if test.kind == "~":
            texts = [text.casefold() for text in texts]
        statement = SQL[_CANDIDATES[test.kind]]
        self._cur.execute(statement, {"texts": Hidden(texts)})
        return dict(self._cur.fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanEvaluation:
    """The data that was read for a plan; needs no connection. It can be called once.

    Chunks are collected while others are still read if they would take too much memory.
    """

    plan: ColumnPlan
    columns: ChunkColumns
    tail: TailEvents
    scanner: Scanner
    unknown_events: Sequence[str]
    """Event names of the question that no event has."""

    @property
    def size(self) -> int:
        """The bytes that were read, about."""
        return self.columns.size + self.tail.size

    def __call__(self, checkpoint: Checkpoint) -> Remarks:
        """Collect all events. Raises: CorruptColumn, and what the checkpoint raises."""
        self.scan_chunks(self.columns, checkpoint)
        checkpoint()
        tail = self.tail.chunk()
        if len(tail):
            first, last = int(tail.time[0]), int(tail.time[-1])
            self.scanner.add_parts(tail, Timeline(self.plan.scan.ranges).slices(first, last))
        return Remarks(tuple(notes(self.scanner.skipped)), self._unknown(tail))

    def scan_chunks(self, chunk_ids: Container[int], checkpoint: Checkpoint = lambda: None) -> None:
        """Collect the events of these chunks, which were read."""
        timeline = Timeline(self.plan.scan.ranges)
        for row in self.plan.chunks:
            if row.chunk_id in chunk_ids:
                checkpoint()
                self._scan_chunk(row, timeline)

    def _scan_chunk(self, row: ChunkRow, timeline: Timeline) -> None:
        chunk = self._chunk(self.columns.open(row.chunk_id))
        index = timeline.range_of(row.first, row.last)
        if index is None:
            self.scanner.add_parts(chunk, timeline.slices(row.first, row.last))
        else:
            self.scanner.add_whole(chunk, index)

    def _chunk(self, columns: OpenedColumns) -> Chunk:
        """Return a chunk that has those of its columns that the plan needs."""
        absent = np.zeros(0, np.int64)
        fields: dict[str, Any] = {
            name: absent if (array := columns.get(field_key(name))) is None else array
            for name in FIELDS
        }
        properties = {
            key: column
            for key, stored_key in self.plan.property_keys.items()
            if isinstance(column := columns.get(stored_key), Column)
        }
        return Chunk(**fields, properties=properties)

    def _unknown(self, tail: Chunk) -> Unknown | None:
        """Return the names in the question that no event has."""
        known = {*self.plan.paths, *(key.path for key in tail.properties)}
        unknown = self.plan.scan.all_paths - known
        properties = sorted(str(Name(path)) for path in unknown)
        events = list(self.unknown_events)
        return Unknown(events, properties) if events or properties else None


def _nonempty(ranges: Iterable[Range]) -> list[Range]:
    return [each for each in ranges if each.start < each.end]


def _name_ids(scan: Scan, tail: TailEvents) -> IdSet | None:
    """Return the ids of the event names of a question; None for all names."""
    names, ids = scan.event_names, tail.name_ids
    return None if names is None else IdSet(ids[name] for name in names if name in ids)


def _event_texts(scan: Scan) -> Iterator[str]:
    """Yield the event names in the filters of a scan."""
    for condition in chain.from_iterable(map(field_conditions, scan.all_filters)):
        test = condition.test
        if condition.name.field == "event" and isinstance(test, AnyOf) and not test.kind:
            yield from (text for text in test.values if isinstance(text, str))


def _needed_columns(plan: ColumnPlan) -> Iterator[tuple[list[int], list[StoredKey]]]:
    """Yield chunks with the columns that are needed of them."""
    timeline = Timeline(plan.scan.ranges)
    cut, whole = list[int](), list[int]()
    for chunk in plan.chunks:
        is_cut = timeline.range_of(chunk.first, chunk.last) is None
        (cut if is_cut else whole).append(chunk.chunk_id)
    fields, properties = plan.scan.all_fields, plan.property_keys.values()
    yield whole, [*map(field_key, sorted(fields)), *properties]
    yield cut, [*map(field_key, sorted(fields | {"time"})), *properties]


def _dropped_before(
    state: ColumnState | None, horizon: datetime | None, *, has_paths: bool
) -> datetime | None:
    """Return the time before which the events or their properties are gone; None if none are."""
    if state is None:
        return horizon
    times = [state.events_from, *([state.columns_from] if has_paths else [])]
    dropped = [datetime.fromisoformat(each) for each in times if each != "-infinity"]
    return max(dropped, default=None)


def _refuse_left_out(chunks: Sequence[ChunkRow], paths: Mapping[Path, int], scan: Scan) -> None:
    """Raise InvalidParameter if chunks may lack a property; `paths` has ids."""
    in_where = paths_of(scan.where) if scan.where else frozenset()
    faults = [
        Fault(
            "where" if path in in_where else scan.parameter, f"the property {Name(path)} {reason}"
        )
        for path, path_id in sorted(paths.items())
        if (reason := _left_out(path, [each for each in chunks if each.complete_to < path_id]))
    ]
    if faults:
        raise InvalidParameter(faults=faults)


def _left_out(path: Path, incomplete: Sequence[ChunkRow]) -> str | None:
    """Return why columns may lack a property; None if they do not."""
    if is_too_long(path):
        return "has so long a name that columns do not hold it"
    if not incomplete:
        return None
    first = format_instant(instant(min(chunk.first for chunk in incomplete)))
    last = format_instant(instant(max(chunk.last for chunk in incomplete)))
    return (
        f"may have been left out of columns of events from {first} to {last}, since there were "
        f"more properties than ANALYTICS_COLUMN_PATHS allows"
    )
