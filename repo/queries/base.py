"""Reductions: what a question reads, and how its answer is computed from that."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

from common.cells import Cell
from common.filters import Filter
from common.query import Query
from common.questions.answer import Checkpoint, Meta
from common.remarks import AnyNote
from common.user_criteria import UserCriterion
from repo.engine.cardinality import Aggregates
from repo.engine.count_collectors import UserCollector
from repo.engine.ordinals import Ordinals
from repo.engine.plan import Aggregation
from repo.engine.scan import Scan
from repo.engine.tail import Snapshot
from repo.engine.user_sets import UserSets
from utils.time.calendar import Range

Q = TypeVar("Q", bound=Query)
D = TypeVar("D")


REDUCTIONS: dict[type[Query], type["BaseReduction[Any, Any]"]] = {}
"""The reductions by the type of the query that they answer."""


class BaseReduction(ABC, Generic[Q, D]):
    """The computation of one answer, for a query with a fixed range and clock."""

    meta_type: ClassVar[type[Meta]] = Meta

    def __init_subclass__(cls, *, query: type[Query] | None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if query:
            REDUCTIONS[query] = cls

    def __init__(self, query: Q, time_range: Range, now: datetime) -> None:
        self.query = query
        self.time_range = time_range
        self.now = now

    def extra_meta(self) -> dict[str, Any]:
        """Return the fields of the meta that this question adds or replaces."""
        return {}

    @property
    def counts_sessions(self) -> bool:
        """Whether numbers are those of sessions, so that `cell_users` returns users repeatedly."""
        return False

    def cell_scan(self, cell: Cell) -> Scan:
        """Return which events are read for the users of a cell. Raises: InvalidParameter."""
        condition = self._cell_condition(cell)
        filters = (condition,) if condition else ()
        return self._scan(self._cell_ranges(cell), filters=filters, parameter="cell")

    def cell_collector(self, cell: Cell) -> Any:
        """Return a new collector of the events of `cell_scan`, a `Collector`.

        If it has an attribute `names`, that is set to all event names by their ids.
        """
        return UserCollector(self._cell_condition(cell))

    def cell_users(self, collector: Any, cell: Cell, checkpoint: Checkpoint) -> Ordinals:
        """Return the users whom a cell counts, from the collector that received all events.

        Where sessions count, they are the users of the sessions.

        Raises: InvalidParameter, TooExpensive, and what the checkpoint raises.
        """
        users: Ordinals = collector.users()
        return users

    def _cell_ranges(self, cell: Cell) -> list[Range]:
        """Return the ranges of the events of a cell. Raises: InvalidParameter."""
        return [self.time_range]

    def _cell_condition(self, cell: Cell) -> Filter | None:
        """Return the condition on the events of a cell, besides `where`; None for all events."""
        return cell.where

    def _scan(self, ranges: list[Range], **options: Any) -> Scan:
        """Return a scan of the parts of ranges that have passed."""
        position = self.query.page_position
        return Scan(
            question=self.query.name,
            ranges=[part.until(self.now) for part in ranges],
            event_names=self.query.event_names,
            where=self.query.where,
            users=self._users,
            snapshot=Snapshot(position.snapshot) if position else None,
            **options,
        )

    @property
    def _users(self) -> tuple[UserCriterion, ...]:
        """The criteria by which users are chosen, up to the clock of the snapshot."""
        if self.query.users is None:
            return ()
        criteria = self.query.user_criteria(self.time_range, self.now)
        return tuple(replace(each, range=each.range.until(self.now)) for each in criteria)

    def _aggregation(self, ranges: list[Range], **options: Any) -> Aggregation:
        """Return an aggregation of the parts of ranges that have passed."""
        names = {"event_names": self.query.event_names}
        return Aggregation(
            question=self.query.name,
            ranges=[part.until(self.now) for part in ranges],
            zone=self.query.zone,
            where=self.query.where,
            users=self._users,
            **{**names, **options},
        )


class Reduction(BaseReduction[Q, D], query=None):
    """The computation of an answer from partial aggregates, which any source may give."""

    @abstractmethod
    def aggregation(self) -> Aggregation:
        """Return what to aggregate."""

    @abstractmethod
    def data(self, aggregates: Aggregates) -> D:
        """Return the data of the answer, from the aggregates of `aggregation`."""

    def without_first_ever(self) -> Self | None:
        """Return a reduction that leaves out what needs the events of all time before the range.

        None if nothing does.
        """
        return None


class ScanReduction(BaseReduction[Q, D], query=None):
    """The computation of an answer from events of columns, which a collector receives."""

    @property
    def needs_names(self) -> bool:
        """Whether the collector has an attribute `names`, for all event names by their ids."""
        return False

    @abstractmethod
    def scan(self) -> Scan:
        """Return which events to read."""

    @abstractmethod
    def collector(self) -> Any:
        """Return a new collector of the events, a `Collector`."""

    @abstractmethod
    def data(self, collector: Any, checkpoint: Checkpoint) -> D:
        """Return the data of the answer from `collector`, which has received all events.

        Raises: what the checkpoint raises.
        """

    def events_without_user(self, collector: Any) -> int | None:
        """Return how many events do not count since they have no user; None where they count."""
        return None

    def _reads_all(self, cell: Cell) -> bool:
        """Return whether the users of a cell come from `collector`, after all events of `scan`."""
        return True

    def cell_scan(self, cell: Cell) -> Scan:
        narrowed = super().cell_scan(cell)  # also checks the cell
        return self.scan() if self._reads_all(cell) else narrowed

    def cell_collector(self, cell: Cell) -> Any:
        return self.collector() if self._reads_all(cell) else super().cell_collector(cell)

    def remarks(self, collector: Any) -> tuple[AnyNote, ...]:
        """Return notes on values that this question skips or repeats, besides those of `where`."""
        return ()


class UserSetReduction(ScanReduction[Q, D], query=None):
    """The computation of an answer for which sets of users may be enough.

    Rollups have these also where columns lack events.
    """

    @abstractmethod
    def user_sets(self) -> Sequence[Aggregation]:
        """Return aggregations whose sets of users are enough for the answer; empty for none."""

    @abstractmethod
    def add_user_sets(self, collector: Any, sets: Sequence[UserSets]) -> None:
        """Give a collector the users of each range, by the aggregations of `user_sets`."""
