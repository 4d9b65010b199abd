"""Scans: one pass over the events of ranges, which a collector receives chunk by chunk."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.filters import Filter, conditions
from common.user_criteria import UserCriterion
from repo.columns.chunk import Chunk, Column, ColumnKey, Kind
from repo.columns.chunk_table import Path
from repo.columns.filter_evaluation import (
    KINDS,
    EventFields,
    IdSet,
    Mask,
    Skipped,
    columns_of,
    matches,
    paths_of,
    skipped_values,
)
from repo.columns.tied_events import Ties
from repo.engine.ordinals import Ordinals
from repo.engine.tail import Snapshot
from repo.engine.timeline import Slices
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The events that a question reads from columns, and the columns that it needs."""

    question: str
    """The name of the question, a label in metrics."""
    ranges: list[Range]
    """Ranges in order that do not overlap, up to the clock of the snapshot."""
    event_names: list[str] | None = None
    """The event names to collect; None for all."""
    where: Filter | None = None
    """The condition on events to collect; None for all."""
    users: tuple[UserCriterion, ...] = ()
    """The criteria of the users whose events to collect; without any, all events are."""
    filters: tuple[Filter, ...] = ()
    """Further conditions that the collector evaluates, such as the steps of a funnel."""
    paths: frozenset[Path] = frozenset()
    """Properties whose values the collector reads."""
    fields: frozenset[str] = frozenset()
    """The fields of events that the collector reads, besides their users."""
    snapshot: Snapshot | None = None
    """Only events that this earlier snapshot sees are collected; None for all."""
    parameter: str = "where"
    """The parameter that names `filters` and `paths`, for errors about a property."""
    parameters: Mapping[Path, str] = field(default_factory=dict)
    """The parameters of those properties that other parameters name."""
    alternatives: str = "`start={horizon}` or later"
    """Questions that can be asked where events before the horizon were dropped, for the error."""
    may_lack_values: bool = False
    """Whether chunks may lack values of `paths`; otherwise a scan is refused where they may."""

    @property
    def of_users(self) -> tuple["Scan", ...]:
        """A scan for each criterion of users, of the events that it is about."""
        return tuple(_scan_of(each, self) for each in self.users)

    @property
    def all_filters(self) -> tuple[Filter, ...]:
        return (*self.filters, *((self.where,) if self.where else ()))

    @property
    def all_paths(self) -> frozenset[Path]:
        """The properties that are read, also those that only filters test."""
        return self.paths.union(*map(paths_of, self.all_filters))

    @property
    def column_keys(self) -> frozenset[ColumnKey]:
        """The columns of properties that are read, where they exist."""
        values = {ColumnKey(path, kind) for path in self.paths for kind in KINDS}
        return frozenset(values).union(*map(columns_of, self.all_filters))

    @property
    def all_fields(self) -> frozenset[str]:
        """The fields of events that are read for events that need not be told apart by time."""
        tested = {each.name.field for part in self.all_filters for each in conditions(part)}
        needs_name = self.event_names is not None or "event" in tested
        names = {"name"} if needs_name else set()
        return self.fields | {"user"} | names | ({"xid"} if self.snapshot else set())


@dataclass(frozen=True)
class MatchingEvents:
    """Events of one chunk in adjacent ranges, and which of them match."""

    chunk: Chunk
    start: int
    """The first row of the chunk that is in the ranges."""
    stop: int
    """The row after the last one."""
    mask: Mask
    """Which of these rows match."""
    indexes: Sequence[int]
    """The indexes of the ranges."""
    positions: Sequence[int]
    """The rows of the chunk at which the ranges begin and end; one more than there are ranges."""
    fields: EventFields
    """The ids that match the conditions of the scan on event names and users."""

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """The rows of the chunk that match, ascending."""
        return np.flatnonzero(self.mask) + self.start

    @cached_property
    def bounds(self) -> list[int]:
        """The positions in `rows` at which the ranges begin and end."""
        return np.searchsorted(self.rows, self.positions).tolist()  # type: ignore[no-any-return]

    @property
    def users(self) -> Ordinals:
        """The users of the events that match, in the order of `rows`."""
        users = self.chunk.user[self.start : self.stop]
        # `compress` takes a third of the time of an index where many match.
        return users if self.is_whole else users.compress(self.mask)

    @cached_property
    def count(self) -> int:
        """The number of events that match."""
        return int(np.count_nonzero(self.mask))

    @property
    def is_whole(self) -> bool:
        """Whether all rows from `start` to before `stop` match."""
        return self.count == len(self.mask)

    def matches(self, where: Filter) -> Mask:
        """Return which of the rows from `start` to before `stop` meet a condition of the scan.

        The array is new and may be changed.
        """
        return matches(where, self.chunk, self.fields, self.start, self.stop)

    def column(self, path: Path, kind: Kind) -> Column | None:
        """Return the values of one type of a property; None if the chunk has none."""
        return self.chunk.properties.get(ColumnKey(path, kind))


class Collector(Protocol):
    """Collects what an answer is computed from."""

    def add(self, events: MatchingEvents) -> None:
        """Add events. Chunks come in any order of time, and each event comes once."""
        ...


@runtime_checkable
class OrderedCollector(Collector, Protocol):
    """A collector whose result depends on the order of a user's events at one instant.

    Events of one chunk are in the order of their ids, but chunks lack the ids by which events of
    several chunks could be ordered.
    """

    @property
    def unordered_ties(self) -> Ties:
        """After the result is computed: ties whose order is unknown, and affects the result."""
        ...

    def add_in_order(self, events: MatchingEvents) -> None:
        """Receive the events of ties again, now in their order.

        All events of a tie are in one call. The result is computed again after it.

        Raises: TooExpensive.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scanner:
    """Finds the events of chunks that a scan selects, and gives them to its collector."""

    scan: Scan
    collector: Collector
    fields: EventFields
    names: IdSet | None
    """The ids of the event names to collect; None for all."""
    erased: IdSet | None
    """The ordinals of erased users whose events are still in chunks."""
    chosen: Callable[[Ordinals], Mask] | None = None
    """Returns which users are chosen; None for all events."""
    skipped: Counter[Skipped] = field(default_factory=Counter)
    """Events with values that the filter of the question skips."""

    def add_whole(self, chunk: Chunk, index: int) -> None:
        """Collect a chunk whose events are all in one range; it needs no times."""
        self._add_rows(chunk, [index], [0, len(chunk.user)])

    def add_parts(self, chunk: Chunk, slices: Iterator[Slices]) -> None:
        """Collect a chunk by the times of its events."""
        for each in slices:
            positions = each.positions(chunk)
            if positions[0] < positions[-1]:
                self._add_rows(chunk, each.indexes, positions)

    def _add_rows(self, chunk: Chunk, indexes: Sequence[int], positions: Sequence[int]) -> None:
        start, stop = positions[0], positions[-1]
        mask = self._among(chunk, start, stop)
        if where := self.scan.where:
            self.skipped.update(skipped_values(where, chunk, mask, start, stop))
            mask &= matches(where, chunk, self.fields, start, stop)
        self.collector.add(
            MatchingEvents(chunk, start, stop, mask, indexes, positions, self.fields)
        )

    def _among(self, chunk: Chunk, start: int, stop: int) -> Mask:
        """Return which events are selected, whatever their properties."""
        among = np.ones(stop - start, np.bool_)
        if self.names:
            among &= self.names.contains(chunk.name[start:stop])
        if self.erased:
            among &= ~self.erased.contains(chunk.user[start:stop])
        if self.scan.snapshot:
            among &= self.scan.snapshot.sees(chunk.xid[start:stop])
        if self.chosen:
            among &= self.chosen(chunk.user[start:stop])
        return among


def _scan_of(criterion: UserCriterion, scan: Scan) -> Scan:
    where = criterion.condition.selection.filter
    return Scan(
        question=scan.question,
        ranges=[criterion.range],
        filters=(where,) if where else (),
        snapshot=scan.snapshot,
        parameter=criterion.parameter,
        alternatives=f"`@start:{{horizon}}` or later in `{criterion.parameter}`",
    )
