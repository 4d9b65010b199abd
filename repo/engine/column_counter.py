"""Count the events of chunks that match a filter, by range, and collect their users."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.filters import Filter
from repo.columns.chunk import Chunk
from repo.columns.filter_evaluation import (
    EventFields,
    IdSet,
    Mask,
    Skipped,
    matches,
    skipped_values,
)
from repo.engine.cardinality import PartialAggregate
from utils.time.calendar import Range

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(instant: datetime) -> int:
    """Return the microseconds since 2000-01-01 UTC."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(microsecond: int) -> datetime:
    """Return the time of `microseconds`."""
    return _EPOCH + microsecond * _MICROSECOND


class Slices(NamedTuple):
    """Adjacent ranges that a chunk has events in."""

    indexes: Sequence[int]
    """The indexes of the ranges."""
    edges: Sequence[int]
    """Where the ranges begin and end, in microseconds; one more than there are ranges."""

    def positions(self, chunk: Chunk) -> list[int]:
        """Return the rows of a chunk at which the ranges begin and end."""
        return np.searchsorted(chunk.time, self.edges).tolist()  # type: ignore[no-any-return]


class Timeline:
    """Ranges in order that do not overlap."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._runs: list[tuple[list[int], list[int]]] = []
        for index, (start, end) in enumerate(ranges):
            if start < end:
                self._add(index, microseconds(start), microseconds(end))

    def _add(self, index: int, start: int, end: int) -> None:
        if not self._runs or self._runs[-1][1][-1] != start:
            self._runs.append(([], [start]))
        indexes, edges = self._runs[-1]
        indexes.append(index)
        edges.append(end)

    def slices(self, first: int, last: int) -> Iterator[Slices]:
        """Yield the ranges that have instants from `first` to `last`, by adjacent ones."""
        for indexes, edges in self._runs:
            if edges[0] <= last and first < edges[-1]:
                start = max(bisect_right(edges, first) - 1, 0)
                end = min(bisect_left(edges, last + 1), len(indexes))
                yield Slices(indexes[start:end], edges[start : end + 1])

    def range_of(self, first: int, last: int) -> int | None:
        """Return the index of the range that contains all instants from `first` to `last`."""
        for indexes, edges in self.slices(first, last):
            if len(indexes) == 1 and edges[0] <= first and last < edges[1]:
                return indexes[0]
        return None

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether a range has instants from `first` to `last`."""
        return next(self.slices(first, last), None) is not None


@dataclass(frozen=True, slots=True)
class EventCounter:
    """Counts events by range, chunk by chunk."""

    where: Filter
    fields: EventFields
    names: IdSet | None
    """The ids of the event names to count; None for all."""
    partials: Sequence[PartialAggregate]
    """Of each range; they grow."""
    skipped: Counter[Skipped] = field(default_factory=Counter)
    """Events with values that the filter skips."""

    def count_whole(self, chunk: Chunk, index: int, erased: IdSet | None = None) -> None:
        """Count a chunk whose events are all in one range; it needs no times."""
        self._count_rows(chunk, [index], [0, len(chunk.user)], erased)

    def count_parts(
        self, chunk: Chunk, slices: Iterator[Slices], erased: IdSet | None = None
    ) -> None:
        """Count a chunk by the times of its events."""
        for each in slices:
            positions = each.positions(chunk)
            if positions[0] < positions[-1]:
                self._count_rows(chunk, each.indexes, positions, erased)

    def _count_rows(
        self, chunk: Chunk, indexes: Sequence[int], positions: list[int], erased: IdSet | None
    ) -> None:
        start, stop = positions[0], positions[-1]
        among = self._among(chunk, start, stop, erased)
        self.skipped.update(skipped_values(self.where, chunk, among, start, stop))
        mask = matches(self.where, chunk, self.fields, start, stop)
        mask &= among
        users = chunk.user[start:stop]
        if len(indexes) == 1:
            self.partials[indexes[0]].add_events(users[mask])
        else:
            self._add_by_range(np.flatnonzero(mask), users, indexes, np.subtract(positions, start))

    def _among(self, chunk: Chunk, start: int, stop: int, erased: IdSet | None) -> Mask:
        """Return which events count, whatever their properties."""
        among = np.ones(stop - start, np.bool_)
        if self.names:
            among &= self.names.contains(chunk.name[start:stop])
        if erased:
            among &= ~erased.contains(chunk.user[start:stop])
        return among

    def _add_by_range(
        self,
        rows: NDArray[np.intp],
        users: NDArray[np.uint32],
        indexes: Sequence[int],
        positions: NDArray[np.int64],
    ) -> None:
        ordinals = users[rows]
        bounds = np.searchsorted(rows, positions).tolist()
        for index, start, stop in zip(indexes, bounds, bounds[1:], strict=False):
            if start < stop:
                self.partials[index].add_events(ordinals[start:stop])
