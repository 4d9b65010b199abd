"""Collect the numbers of a property by range, or the sums of users by range."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from common.checkpoint import Checkpoint
from common.errors import TooExpensive
from repo.columns.chunk import Column, DecimalNumbers, Kind, ScaledNumbers
from repo.columns.chunk_table import Path
from repo.columns.filter_evaluation import KINDS
from repo.columns.statistics import ExactSum, Positions, Sample, sample_of, sums_by_group
from repo.engine.bitmaps import union_of
from repo.engine.ordinals import (
    Ordinals,
    UserMemory,
    count_distinct,
    distinct_ordinals,
    group_by_user,
    set_of,
)
from repo.engine.scan import MatchingEvents
from repo.engine.span_cache import size_of
from utils.distinct import distinct

MAX_BYTES = 256 * 2**20
"""The largest size of the numbers that are held for percentiles, or for the sums of users."""

_CHEAPER = "a shorter range, or no percentiles"

Rows = NDArray[Any]
"""Rows of a chunk, ascending; a list repeats its row."""


@dataclass(slots=True)
class NumberAggregate:
    """Numbers and their users, collected part by part."""

    has_percentiles: bool
    count: int = 0
    sum: ExactSum = field(default_factory=ExactSum)
    least: Decimal | None = None
    greatest: Decimal | None = None
    samples: list[Sample] = field(default_factory=list)
    """The numbers, for percentiles."""
    ordinals: list[Ordinals] = field(default_factory=list)
    """The users, who may repeat; 0 is no user."""
    sets: list[BitMap] = field(default_factory=list)
    """Sets of users, in addition to `ordinals`."""

    def add(self, sample: Sample, users: Ordinals) -> int:
        """Add at least one number; return the bytes that are held from now on."""
        self._include(len(sample), sample.sum(), sample.least(), sample.greatest())
        self.ordinals.append(users)
        if not self.has_percentiles:
            return 0
        self.samples.append(sample)
        return sample.nbytes

    def merge(self, other: "NumberAggregate") -> None:
        if other.least is not None and other.greatest is not None:
            self._include(other.count, other.sum, other.least, other.greatest)
            self.ordinals += other.ordinals
            self.sets += other.sets
            self.samples += other.samples

    @property
    def users(self) -> int:
        """The number of distinct users."""
        if not self.sets:
            return count_distinct(self.ordinals)
        return len(union_of([*self.sets, set_of(*self.ordinals)]))

    def compact(self) -> int:
        """Turn ordinals into a set, which takes less memory; return its bytes, about."""
        self.sets = [union_of([*self.sets, set_of(*self.ordinals)])]
        self.ordinals = []
        return size_of(self.sets[0])

    @property
    def all_ordinals(self) -> list[Ordinals]:
        """The users, also those of sets; they may repeat, and 0 is no user."""
        return [*self.ordinals, *(np.array(each, np.uint32) for each in self.sets)]

    def _include(self, count: int, total: ExactSum, least: Decimal, greatest: Decimal) -> None:
        self.count += count
        self.sum += total
        self.least = least if self.least is None else min(self.least, least)
        self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)


@dataclass(slots=True)
class UserNumbers:
    """Numbers of users, collected part by part."""

    has_percentiles: bool
    samples: list[Sample] = field(default_factory=list)
    ordinals: list[Ordinals] = field(default_factory=list)
    """The user of each number."""

    def add(self, sample: Sample, users: Ordinals) -> int:
        """Add numbers; return the bytes that are held from now on."""
        self.samples.append(sample)
        self.ordinals.append(users)
        return sample.nbytes + users.nbytes

    def merge(self, other: "UserNumbers") -> None:
        self.samples += other.samples
        self.ordinals += other.ordinals

    @property
    def all_ordinals(self) -> list[Ordinals]:
        """The users, who may repeat."""
        return self.ordinals

    def sums(self) -> NumberAggregate:
        """Return the sums of users as an aggregate."""
        result = NumberAggregate(self.has_percentiles)
        if self.samples:
            users, groups = group_by_user(self.ordinals)
            result.add(sums_by_group(self.samples, groups, len(users)), users)
        return result


class SkippedEvents(NamedTuple):
    """Events without a value, and with values of other types; one event may have several."""

    missing: int
    text: int
    boolean: int


class _Values(NamedTuple):
    """Values of matching events."""

    positions: Positions
    """In their column."""
    rows: Rows


class NumberBudget:
    """The memory that the numbers of a question and their users hold, in all its collectors."""

    def __init__(self) -> None:
        self._bytes = 0
        self._users = UserMemory()
        self._aggregates: list[NumberAggregate] = []

    def add(self, aggregates: Iterable[NumberAggregate]) -> None:
        """Bound the memory of the users of aggregates from now on."""
        self._aggregates += aggregates

    def take_users(self, count: int) -> None:
        """Note that users were added to aggregates. Raises: TooExpensive."""
        self._users.take(count, self._aggregates)

    def take(self, count: int) -> None:
        """Add a number of bytes. Raises: TooExpensive."""
        self._bytes += count
        if self._bytes > MAX_BYTES:
            raise TooExpensive("bytes of numbers", self._bytes, MAX_BYTES, _CHEAPER)


class NumberCollector:
    """Collects numbers by range, or sums of users by range."""

    def __init__(
        self,
        path: Path,
        ranges: int,
        *,
        is_per_user: bool,
        has_percentiles: bool,
        budget: NumberBudget | None = None,
    ) -> None:
        """`ranges` is the number of ranges."""
        self._path = path
        self._type = UserNumbers if is_per_user else NumberAggregate
        self._has_percentiles = has_percentiles
        self._parts = [self._type(has_percentiles) for _ in range(ranges)]
        self._budget = budget or NumberBudget()
        self._budget.add(part for part in self._parts if isinstance(part, NumberAggregate))
        self._skipped = np.zeros((ranges, len(SkippedEvents._fields)), np.int64)
        self.events_without_user = 0
        """Events with numbers that sums of users leave out."""

    @property
    def total(self) -> "NumberCollector":
        """The collector of all numbers, as of a collector by groups."""
        return self

    def add(self, events: MatchingEvents) -> None:
        """Raises: TooExpensive."""
        columns = {kind: events.column(self._path, kind) for kind in KINDS}
        is_whole = bool(events.mask.all())
        values = {
            kind: _select(each, events, is_whole=is_whole) for kind, each in columns.items() if each
        }
        rows = {kind: _distinct(each.rows) for kind, each in values.items()}
        matching = np.diff(events.positions if is_whole else events.bounds)
        self._skipped[list(events.indexes)] += _skipped(events, matching, rows).T
        if column := columns["number"]:
            assert isinstance(column.values, ScaledNumbers | DecimalNumbers)
            self._add_numbers(sample_of(column.values), values["number"], events)

    @property
    def skipped(self) -> tuple[SkippedEvents, list[SkippedEvents]]:
        """The events of all ranges, and those of each."""
        parts = [SkippedEvents(*part) for part in self._skipped.tolist()]
        return SkippedEvents(*self._skipped.sum(axis=0).tolist()), parts

    def aggregates(self, checkpoint: Checkpoint) -> tuple[NumberAggregate, list[NumberAggregate]]:
        """Return the aggregate of all ranges, and that of each.

        Raises: what the checkpoint raises.
        """
        parts = [_finished(part, checkpoint) for part in self._parts]
        if len(parts) == 1:
            return parts[0], parts
        # Users may have numbers in several ranges, so their sums are computed again.
        whole = self._type(self._has_percentiles)
        for part in self._parts:
            whole.merge(part)  # type: ignore[arg-type]
        return _finished(whole, checkpoint), parts

    def users(self, index: int | None) -> Ordinals:
        """Return the distinct users of the numbers of one range, or of all."""
        parts = self._parts if index is None else [self._parts[index]]
        return distinct_ordinals([each for part in parts for each in part.all_ordinals])

    def _add_numbers(self, sample: Sample, values: _Values, events: MatchingEvents) -> None:
        positions, rows = values
        users = events.chunk.user[rows]
        sample = sample.at(positions)
        if self._type is UserNumbers and not users.all():
            has_user = users != 0
            self.events_without_user += len(_distinct(rows[~has_user]))
            sample, rows, users = sample.at(has_user), rows[has_user], users[has_user]
        bounds = np.searchsorted(rows, events.positions).tolist()
        for index, start, stop in zip(events.indexes, bounds, bounds[1:], strict=False):
            if start < stop:
                part = slice(start, stop)
                self._budget.take(self._parts[index].add(sample.at(part), users[part]))
        if self._type is NumberAggregate:
            self._budget.take_users(len(users))


def _finished(part: NumberAggregate | UserNumbers, checkpoint: Checkpoint) -> NumberAggregate:
    checkpoint()
    return part.sums() if isinstance(part, UserNumbers) else part


def _select(column: Column, events: MatchingEvents, *, is_whole: bool) -> _Values:
    """Return which values of a column are those of matching events; `is_whole`: all match."""
    if column.rows is None:
        return _Values(events.rows, events.rows)
    # Of the same type, or numpy would convert all rows.
    edges = np.array((events.start, events.stop), column.rows.dtype)
    first, end = np.searchsorted(column.rows, edges).tolist()
    rows = column.rows[first:end]
    if is_whole:
        return _Values(slice(first, end), rows)
    hits = events.mask[rows - events.start]
    return _Values(np.flatnonzero(hits) + first, rows[hits])


def _distinct(rows: Rows) -> Rows:
    """Return rows without repetitions."""
    is_new = rows[1:] != rows[:-1]
    return rows if is_new.all() else rows[np.concatenate([[True], is_new])]


def _skipped(
    events: MatchingEvents, matching: NDArray[np.int64], rows: Mapping[Kind, Rows]
) -> NDArray[np.int64]:
    """Return the fields of `SkippedEvents`, each by range.

    `matching` has the matching events by range, and `rows` those with values by their type.
    """

    def count(some: Rows) -> NDArray[np.int64]:
        return np.diff(np.searchsorted(some, events.positions))

    none = np.zeros(0, np.int32)
    parts = list(rows.values())
    with_value = parts[0] if len(parts) == 1 else distinct(np.concatenate([none, *parts]))
    missing = matching - count(with_value)
    return np.array([missing, count(rows.get("text", none)), count(rows.get("boolean", none))])
