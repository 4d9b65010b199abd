"""Read columns and their tail for scans, in one snapshot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from common.errors import Fault, InvalidParameter, format_instant
from common.filters import AnyOf, Condition, Name
from common.metrics import EVENTS_READ
from config.database import Cursor
from repo.columns.cache import COLUMN_CACHE, ChunkColumns, ColumnCache
from repo.columns.chunk_table import (
    ALL_PATHS,
    ChunkRow,
    ColumnState,
    Path,
    read_column_bytes,
)
from repo.columns.column_tail import SQL, TailEvents, TailReader, backlog
from repo.columns.filter_evaluation import (
    EventFields,
    IdSet,
    field_conditions,
    matching_ids,
    paths_of,
)
from repo.columns.property_collector import is_too_long
from repo.columns.tied_events import Ties
from repo.engine.column_catalog import ColumnCatalog
from repo.engine.column_plan import ColumnPlan
from repo.engine.cost import Cost
from repo.engine.dimensions import EventNameDictionary
from repo.engine.folded_tail import read_folded_tail
from repo.engine.scan import Collector, Scan, Scanner
from repo.engine.scan_evaluation import ChoiceEvaluation, ScanEvaluation
from repo.engine.tail import NOTHING_FOLDED
from repo.engine.timeline import Timeline, instant
from repo.engine.user_choice import UserChoice
from repo.engine.user_ids import read_user_ids
from repo.engine.watermark import SQL as ROLLUPS
from repo.engine.watermark import Watermark, format_cache_version
from repo.hide_from_pg_stat_activity import Hidden
from utils.time.calendar import Range

KIND = "columns"
_EVENT_NAMES = EventNameDictionary()


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
        self._catalog = ColumnCatalog(cur, watermark) if watermark else None
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
        state = self._catalog.state() if self._catalog else None
        of_users = [self._plan(each, state) for each in scan.of_users]
        main = self._plan(scan, state)
        blocked = next((each for each in (main, *of_users) if each.needs_dropped), main)
        plan = replace(
            main,
            cost=Cost(column_rows=main.row_count + sum(each.row_count for each in of_users)),
            horizon=blocked.horizon,
            needs_dropped=blocked.needs_dropped,
            alternatives=blocked.alternatives,
            of_users=of_users,
        )
        return self._explained(plan) if explain else plan

    def read(
        self, plan: ColumnPlan, collector: Collector, tail: TailEvents | None = None
    ) -> ScanEvaluation:
        """Return the evaluation of a plan, which gives the events to the collector.

        `tail` was read for a plan with the same ranges, whose names are among those of the tail.
        """
        if tail is None:
            tail = self.read_tail(plan)
        erased = plan.state.erased if plan.state else []
        common = _Common(tail, IdSet(erased) if erased else None)
        if not plan.of_users:
            return self._read_scan(plan, collector, common)
        choice = UserChoice(plan.scan.users)
        pairs = zip(plan.of_users, choice.counters, strict=True)
        evaluations = [self._read_scan(each, counter, common) for each, counter in pairs]
        return self._read_scan(plan, collector, common, ChoiceEvaluation(choice, evaluations))

    def read_again(self, evaluation: ScanEvaluation, collector: Collector) -> ScanEvaluation:
        """Return an evaluation of a scan that was evaluated, for another collector.

        Users have the same ordinals, also those that have temporary ones.
        """
        common = _Common(evaluation.tail, evaluation.scanner.erased)
        return self._read_scan(evaluation.plan, collector, common, evaluation.choice)

    def read_ties(self, cur: Cursor, evaluation: ScanEvaluation, ties: Ties) -> TailEvents:
        """Return the events of ties that the snapshot of this reader sees, with their ids.

        `cur` may have a later snapshot. Events that were deleted meanwhile are missing.

        Raises: TooExpensive.
        """
        assert self._watermark, "without rollups all events are in one chunk"
        known = evaluation.tail.name_ids

        def name_ids(names: Iterable[str]) -> Mapping[str, int]:
            # The temporary ids of the snapshot come first: names may have got others since.
            return {**later._name_ids(names), **known}

        later = ColumnReader(cur, self._watermark, self._horizon, self._cache)
        reader = later._tail(None)
        return reader.read_ties(ties, self._watermark.now, name_ids)

    def _plan(self, scan: Scan, state: ColumnState | None) -> ColumnPlan:
        """Return the plan of a scan alone, without the choice of users."""
        ranges = _nonempty(scan.ranges)
        chunks = self._chunks(state, ranges)
        paths = self._paths(state, scan, chunks if ranges else None)
        horizon = _dropped_before(state, self._horizon, has_paths=bool(scan.all_paths))
        return ColumnPlan(
            source=KIND,
            scan=scan,
            cost=None,
            allowed_events=0,
            horizon=horizon,
            needs_dropped=bool(horizon and ranges and ranges[0].start < horizon),
            alternatives=scan.alternatives.format(horizon=format_instant(horizon))
            if horizon
            else "",
            state=state,
            chunks=chunks,
            paths=paths,
        )

    def _explained(self, plan: ColumnPlan) -> ColumnPlan:
        tail = self._tail(plan.state).count(plan.ranges)
        unread_bytes = sum(map(self._unread_bytes, plan.scan_plans))
        return replace(plan, tail=tail, unread_bytes=unread_bytes)

    def _read_scan(
        self,
        plan: ColumnPlan,
        collector: Collector,
        common: "_Common",
        choice: ChoiceEvaluation | None = None,
    ) -> ScanEvaluation:
        scan, tail = plan.scan, common.tail
        evaluation = ScanEvaluation(
            plan=plan,
            columns=self._columns(plan.state),
            tail=tail,
            scanner=Scanner(
                scan,
                collector,
                self._fields(scan, tail),
                _name_ids(scan, tail),
                common.erased,
                choice.choice.contains if choice else None,
            ),
            unknown_events=sorted(_event_names(scan) - tail.name_ids.keys()),
            choice=choice,
        )
        for chunk_ids, keys in plan.needed_columns():
            evaluation.columns.read(
                self._cur, plan.generation, chunk_ids, keys, evaluation.scan_chunks
            )
        return evaluation

    def read_tail(self, plan: ColumnPlan) -> TailEvents:
        """Return the events of a plan that are in no chunk."""
        names = {name for each in plan.scan_plans for name in _event_names(each.scan)}
        # One tail, so that users without an ordinal have one temporary ordinal in all scans.
        tail = self._read_tail(plan, names)
        EVENTS_READ.labels(plan.scan.question).inc(len(tail.records))
        return tail

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

    def _read_tail(self, plan: ColumnPlan, names: Iterable[str]) -> TailEvents:
        folded = None
        if self._watermark and plan.state and plan.state.has_tail and plan.ranges:
            folded = read_folded_tail(self._cur, self._watermark, plan.state, self._name_ids)
        if self._watermark is None or plan.state is None or folded is None:
            return self._tail(plan.state).read(plan.ranges, names, self._name_ids)
        now = self._watermark.now if self._watermark.tail_events else self._watermark.folded
        rest = backlog(plan.state._replace(snapshot=self._watermark.folded), now)
        reader = TailReader(self._cur, rest, self._horizon)
        return replace(reader.read(plan.ranges, names, self._name_ids), folded=folded)

    def _tail(self, state: ColumnState | None) -> TailReader:
        now = self._watermark.now if self._watermark else NOTHING_FOLDED
        return TailReader(self._cur, backlog(state, now), self._horizon)

    def _chunks(self, state: ColumnState | None, ranges: Sequence[Range]) -> list[ChunkRow]:
        if self._catalog is None or state is None or not ranges:
            return []
        timeline = Timeline(ranges)
        chunks = self._catalog.chunks(state, Range(ranges[0].start, ranges[-1].end))
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
        registered = self._catalog.path_ids(paths) if self._catalog and state else {}
        if chunks is not None and not scan.may_lack_values:
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
            for chunk_ids, keys in plan.needed_columns()
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
        return self._users(test) | matching_ids(test, tail.new_users)

    def _all_names(self, test: AnyOf) -> dict[str, int]:
        """Return the ids of all names, where a test needs them."""
        if not test.kind:
            return {}
        self._cur.execute(SQL["column_questions_all_names"])
        return dict(self._cur.fetchall())

    def _users(self, test: AnyOf) -> IdSet:
        """Return the ordinals of the users that a test matches. Raises: TooExpensive."""
        if test.kind:
            memory_key = self._watermark.memory_key if self._watermark else None
            return IdSet(read_user_ids(self._cur, memory_key).matching(test))
        texts = [text for text in test.values if isinstance(text, str)]
        self._cur.execute(SQL["column_questions_users_equal"], {"texts": Hidden(texts)})
        return IdSet(ordinal for _, ordinal in self._cur)


class _Common(NamedTuple):
    """The data that all scans of a question share."""

    tail: TailEvents
    erased: IdSet | None
    """The ordinals of erased users whose events are still in chunks."""


def _nonempty(ranges: Iterable[Range]) -> list[Range]:
    return [each for each in ranges if each.start < each.end]


def _name_ids(scan: Scan, tail: TailEvents) -> IdSet | None:
    """Return the ids of the event names of a question; None for all names."""
    names, ids = scan.event_names, tail.name_ids
    return None if names is None else IdSet(ids[name] for name in names if name in ids)


def _event_names(scan: Scan) -> set[str]:
    """Return the event names of a scan and its filters."""
    tests = [
        condition.test
        for condition in chain.from_iterable(map(field_conditions, scan.all_filters))
        if condition.name.field == "event"
    ]
    exact = [each.values for each in tests if isinstance(each, AnyOf) and not each.kind]
    texts = {text for text in chain.from_iterable(exact) if isinstance(text, str)}
    return {*(scan.event_names or ()), *texts}


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
            "where" if path in in_where else scan.parameters.get(path, scan.parameter),
            f"the property {Name(path)} {reason}",
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
