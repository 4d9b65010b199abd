"""The source that aggregates columns and their tail: it answers what depends on properties."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from common.errors import Fault, InvalidParameter, format_instant
from common.filters import AnyOf, Condition, Filter, Name, conditions
from common.metrics import EVENTS_READ
from common.questions.answer import Checkpoint
from common.remarks import Unknown
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
    columns_of,
    field_conditions,
    matching_ids,
    notes,
    paths_of,
)
from repo.columns.property_collector import is_too_long
from repo.engine.cardinality import (
    Aggregates,
    CardinalityCache,
    PartialAggregate,
    RangeAggregate,
)
from repo.engine.column_counter import EventCounter, Timeline, instant
from repo.engine.cost import Cost
from repo.engine.dimensions import EventNameDictionary
from repo.engine.plan import Aggregation, Plan
from repo.engine.tail import NOTHING_FOLDED
from repo.engine.watermark import SQL as ROLLUPS
from repo.engine.watermark import Watermark, format_cache_version
from repo.hide_from_pg_stat_activity import Hidden
from utils.time.calendar import Range

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

    state: ColumnState | None
    chunks: Sequence[ChunkRow]
    paths: Mapping[Path, int]
    """The ids of those properties of the filter that have columns."""
    unread_bytes: int = 0
    """Bytes of columns that must be read from PostgreSQL, where the plan is explained."""

    @property
    def generation(self) -> int:
        return self.state.generation if self.state else 0

    @property
    def property_keys(self) -> dict[ColumnKey, StoredKey]:
        """The columns of properties that the filter tests."""
        return {
            key: property_key(path_id, key.kind)
            for key in columns_of(_where(self.aggregation))
            if (path_id := self.paths.get(key.path))
        }


class ColumnSource:
    """A source on columns, within one snapshot; see `Source` for its methods."""

    kind = "columns"

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
        if self._watermark is None:
            return None
        return format_cache_version(self._watermark.lineage, self._watermark.changed_version)

    def supports(self, aggregation: Aggregation) -> bool:
        return aggregation.where is not None and aggregation.group is None

    def plan(self, aggregation: Aggregation, *, explain: bool = False) -> ColumnPlan:
        where, ranges = _where(aggregation), _nonempty(aggregation.ranges)
        state = self._read_state()
        chunks = self._chunks(state, ranges)
        paths = self._paths(state, where, chunks if ranges else None)
        horizon = _dropped_before(state, self._horizon, has_paths=bool(paths_of(where)))
        plan = ColumnPlan(
            source=self.kind,
            aggregation=aggregation,
            cost=Cost(column_rows=sum(chunk.events for chunk in chunks)),
            allowed_events=0,
            tail=self._tail(state).count(ranges) if explain else 0,
            horizon=horizon,
            needs_dropped=bool(horizon and ranges and ranges[0].start < horizon),
            alternatives=f"`start={format_instant(horizon)}` or later" if horizon else "",
            state=state,
            chunks=chunks,
            paths=paths,
        )
        return replace(plan, unread_bytes=self._unread_bytes(plan)) if explain else plan

    def read(self, plan: ColumnPlan) -> "ColumnEvaluation":
        aggregation, ranges = plan.aggregation, _nonempty(plan.aggregation.ranges)
        where = _where(aggregation)
        names = {*(aggregation.event_names or ()), *_event_texts(where)}
        tail = self._tail(plan.state).read(ranges, names, self._name_ids)
        EVENTS_READ.labels(aggregation.question).inc(len(tail.records))
        erased = read_erased_users(self._cur) if plan.chunks else []
        evaluation = ColumnEvaluation(
            plan=plan,
            columns=self._columns(plan.state),
            tail=tail,
            counter=EventCounter(
                where,
                self._fields(where, tail),
                _name_ids(aggregation, tail),
                [PartialAggregate() for _ in aggregation.ranges],
            ),
            erased=IdSet(erased) if erased else None,
            unknown_events=sorted(names - tail.name_ids.keys()),
        )
        for chunk_ids, keys in _needed_columns(plan):
            evaluation.columns.read(
                self._cur, plan.generation, chunk_ids, keys, evaluation.count_chunks
            )
        return evaluation

    def _fields(self, where: Filter, tail: TailEvents) -> EventFields:
        return EventFields(
            {
                condition: self._matching_ids(condition, tail)
                for condition in field_conditions(where)
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
        self, state: ColumnState | None, where: Filter, chunks: Sequence[ChunkRow] | None
    ) -> dict[Path, int]:
        """Return the ids of the properties of a filter that have columns.

        Raises: InvalidParameter if one may be missing in chunks.
        """
        paths = paths_of(where)
        if not paths:
            return {}
        registered = read_paths(self._cur, state.generation, paths) if state else {}
        if chunks is not None:
            _refuse_left_out(chunks, {path: registered.get(path, ALL_PATHS) for path in paths})
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
class ColumnEvaluation:
    """The data that was read for a plan; needs no connection. It can be called once.

    Chunks are counted while others are still read if they would take too much memory.
    """

    plan: ColumnPlan
    columns: ChunkColumns
    tail: TailEvents
    counter: EventCounter
    erased: IdSet | None
    """The ordinals of erased users whose events are still in chunks."""
    unknown_events: Sequence[str]
    """Event names of the question that no event has."""

    @property
    def size(self) -> int:
        """The bytes that were read, about."""
        return self.columns.size + self.tail.size

    def __call__(self, checkpoint: Checkpoint) -> Aggregates:
        """Count the events. Raises: CorruptColumn, and what the checkpoint raises."""
        self.count_chunks(self.columns, checkpoint)
        checkpoint()
        tail = self.tail.chunk()
        if len(tail):
            first, last = int(tail.time[0]), int(tail.time[-1])
            slices = Timeline(self.plan.aggregation.ranges).slices(first, last)
            self.counter.count_parts(tail, slices)
        return Aggregates(
            [RangeAggregate({}, partial) for partial in self.counter.partials],
            CardinalityCache(),
            notes=tuple(notes(self.counter.skipped)),
            unknown=self._unknown(tail),
        )

    def count_chunks(
        self, chunk_ids: Container[int], checkpoint: Checkpoint = lambda: None
    ) -> None:
        """Count the events of these chunks, which were read."""
        timeline = Timeline(self.plan.aggregation.ranges)
        for row in self.plan.chunks:
            if row.chunk_id in chunk_ids:
                checkpoint()
                self._count_chunk(row, timeline)

    def _count_chunk(self, row: ChunkRow, timeline: Timeline) -> None:
        chunk = self._chunk(self.columns.open(row.chunk_id))
        index = timeline.range_of(row.first, row.last)
        if index is None:
            self.counter.count_parts(chunk, timeline.slices(row.first, row.last), self.erased)
        else:
            self.counter.count_whole(chunk, index, self.erased)

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
        unknown = paths_of(_where(self.plan.aggregation)) - known
        properties = sorted(str(Name(path)) for path in unknown)
        events = list(self.unknown_events)
        return Unknown(events, properties) if events or properties else None


def _where(aggregation: Aggregation) -> Filter:
    assert aggregation.where, "this source counts filtered events"
    return aggregation.where


def _nonempty(ranges: Iterable[Range]) -> list[Range]:
    return [each for each in ranges if each.start < each.end]


def _name_ids(aggregation: Aggregation, tail: TailEvents) -> IdSet | None:
    """Return the ids of the event names of a question; None for all names."""
    names, ids = aggregation.event_names, tail.name_ids
    return None if names is None else IdSet(ids[name] for name in names if name in ids)


def _event_texts(where: Filter) -> Iterator[str]:
    """Yield the event names in a filter."""
    for condition in field_conditions(where):
        test = condition.test
        if condition.name.field == "event" and isinstance(test, AnyOf) and not test.kind:
            yield from (text for text in test.values if isinstance(text, str))


def _needed_columns(plan: ColumnPlan) -> Iterator[tuple[list[int], list[StoredKey]]]:
    """Yield chunks with the columns that are needed of them."""
    timeline = Timeline(plan.aggregation.ranges)
    cut, whole = list[int](), list[int]()
    for chunk in plan.chunks:
        is_cut = timeline.range_of(chunk.first, chunk.last) is None
        (cut if is_cut else whole).append(chunk.chunk_id)
    fields = ["user"]
    where = _where(plan.aggregation)
    if plan.aggregation.event_names is not None or any(
        condition.name.field == "event" for condition in conditions(where)
    ):
        fields.append("name")
    keys = [*map(field_key, fields), *plan.property_keys.values()]
    yield whole, keys
    yield cut, [field_key("time"), *keys]


def _dropped_before(
    state: ColumnState | None, horizon: datetime | None, *, has_paths: bool
) -> datetime | None:
    """Return the time before which the events or their properties are gone; None if none are."""
    if state is None:
        return horizon
    times = [state.events_from, *([state.columns_from] if has_paths else [])]
    dropped = [datetime.fromisoformat(each) for each in times if each != "-infinity"]
    return max(dropped, default=None)


def _refuse_left_out(chunks: Sequence[ChunkRow], paths: Mapping[Path, int]) -> None:
    """Raise InvalidParameter if chunks may lack a property; `paths` has ids."""
    faults = [
        Fault("where", f"the property {Name(path)} {reason}")
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
