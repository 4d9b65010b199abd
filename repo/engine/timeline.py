"""Ranges of time, and which of them a chunk has events in."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from repo.columns.chunk import Chunk
from utils.time.calendar import Range

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(instant: datetime) -> int:
    """Return the microseconds since 2000-01-01 UTC."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(microsecond: int) -> datetime:
    """Return the time of `microseconds`."""
    return _EPOCH + microsecond * _MICROSECOND


def united(ranges: Iterable[Range]) -> list[Range]:
    """Return the times that are in any of the ranges, as ranges in order that do not touch."""
    result: list[Range] = []
    for start, end in sorted(each for each in ranges if each.start < each.end):
        if result and start <= result[-1].end:
            result[-1] = Range(result[-1].start, max(result[-1].end, end))
        else:
            result.append(Range(start, end))
    return result


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
