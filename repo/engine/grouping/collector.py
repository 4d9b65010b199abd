"""Collects events by the values of properties, and counts the events and users of each group."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.checkpoint import Checkpoint
from common.errors import TooExpensive
from repo.columns.chunk import ScaledNumbers
from repo.columns.chunk_table import Path
from repo.columns.values import python_values
from repo.engine.cardinality import Count
from repo.engine.grouping.category_counts import CategoryCounter, CategoryCounts, GroupedEvents
from repo.engine.grouping.memberships import (
    Codes,
    Memberships,
    Selection,
    by_pairs,
    by_property,
)
from repo.engine.grouping.ranking import CountedCodes, GroupValues, Ranking, rank
from repo.engine.grouping.value_table import NO_NUMBERS, NO_TEXTS, ValueTable
from repo.engine.ordinals import FlaggedUsers, Ordinals
from repo.engine.scan import MatchingEvents

_MAX_BYTES = 2**28
"""The largest size of groups and users that are not in the arrays of chunks."""
_FEW = 2**16
_DENSE = 4
"""The number of possible groups for each event up to which counting is faster than sorting."""


class GroupCount(NamedTuple):
    """A group with its events and users, in all ranges together and in each."""

    values: GroupValues
    total: Count
    series: list[Count]


class Groups(NamedTuple):
    """Events and users by group."""

    total: Count
    rows: list[GroupCount]
    """The groups with the most events; ties are in the order of their values."""
    other_groups: int
    """The number of groups that are not among the rows."""
    other: GroupCount
    """All other groups together. An event that is in several of them because of a list counts in
    each."""
    missing: Count
    """The groups that lack a property, also those that are among the rows."""


class _Part(NamedTuple):
    """Events of a chunk."""

    events: GroupedEvents
    indexes: Sequence[int]
    """The indexes of the ranges."""
    bounds: Sequence[int]
    """The positions at which the ranges begin and end."""
    counts: NDArray[np.int64] | None
    """The number of events by code, where it is known."""


class GroupCollector:
    """Collects events by one or two properties; None stands for the name of the event.

    It holds the group and the user of each event. Where all events of a chunk are selected, these
    are its own arrays, which are mapped into memory where columns have files.
    """

    def __init__(self, dimensions: Sequence[Path | None]) -> None:
        self.names: Mapping[int, str] = {}
        """The event names by their ids, for groups by name; they may be set after `add`."""
        self.repeated = [0] * len(dimensions)
        """The number of times that events count beyond the first because of lists, by property."""
        self._dimensions = dimensions
        self._tables: list[tuple[ValueTable, ...]] = []
        self._parts: list[_Part] = []
        self._events: Counter[int] = Counter()
        self._highest_user = self._bytes = 0

    def add(self, events: MatchingEvents) -> None:
        """Add the selected events of a chunk. Raises: TooExpensive."""
        selection = Selection(events.mask, int(np.count_nonzero(events.mask)))
        if not selection.count:
            return
        bounds = _bounds(events, selection)
        for index, start, end in zip(events.indexes, bounds, bounds[1:], strict=False):
            self._events[index] += end - start
        (codes, rows, counts), tables = self._group(events, selection)
        users = selection.of(events.chunk.user[events.start : events.stop])
        if rows is not None:
            users, bounds = users[rows], np.searchsorted(rows, bounds).tolist()
        codes = _compact(codes, prod(map(len, tables)))
        grouped = GroupedEvents(self._position(tables), codes, users)
        self._parts.append(_Part(grouped, events.indexes, bounds, counts))
        self._highest_user = max(self._highest_user, int(users.max()))
        self._check(sum(each.nbytes for each in (codes, users) if each.flags.owndata))

    def groups(self, limit: int, ranges: int, checkpoint: Checkpoint) -> Groups:
        """Return the groups with the most events, with series of so many ranges; 0 for no series.

        Raises: TooExpensive, and what the checkpoint raises.
        """
        counted = list(self._count(checkpoint))
        ranking = rank(counted, limit, self._with_names, checkpoint)
        counter = CategoryCounter(counted, ranking, self._highest_user)
        all_counts = counter.count_all([part.events for part in self._parts], checkpoint)
        buckets = [
            _series_counts(counter.count(each, checkpoint), ranking.other)
            for each in self._by_range(ranges)
        ]
        return _groups(ranking, all_counts, buckets, self._events.total())

    def other_users(self, limit: int, index: int | None, checkpoint: Checkpoint) -> Ordinals:
        """Return the users of all groups but those with the most events.

        They are those of one range, or of all. Raises: TooExpensive, and what the checkpoint
        raises.
        """
        counted = list(self._count(checkpoint))
        ranking = rank(counted, limit, self._with_names, checkpoint)
        parts = [part.events for part in self._parts]
        if index is not None:
            parts = list(self._by_range(index + 1))[index]
        users = FlaggedUsers()
        for part in parts:
            checkpoint()
            positions = np.searchsorted(counted[part.table].codes, part.codes)
            is_other = ranking.categories[part.table][positions] >= ranking.other
            users.add(part.users[is_other])
        return users.ordinals()

    def _group(
        self, events: MatchingEvents, selection: Selection
    ) -> tuple[Memberships, tuple[ValueTable, ...]]:
        """Return the groups of events by all properties, and the tables of their codes."""
        by = [_by(each, events, selection) for each in self._dimensions]
        for position, (memberships, _) in enumerate(by):
            self.repeated[position] += len(memberships.codes) - selection.count
        (memberships, table), *others = by
        for other, other_table in others:
            pairs = by_pairs(memberships, other, (len(table), len(other_table)))
            return pairs, (table, other_table)
        return memberships, (table,)

    def _position(self, tables: tuple[ValueTable, ...]) -> int:
        """Return the position of tables, which are often the same as those of the last chunk."""
        if not self._tables or not all(map(ValueTable.equals, self._tables[-1], tables)):
            self._tables.append(tables)
        return len(self._tables) - 1

    def _check(self, more_bytes: int) -> None:
        self._bytes += more_bytes
        if self._bytes > _MAX_BYTES:
            raise TooExpensive(
                "bytes of groups and users", self._bytes, _MAX_BYTES, "a shorter range, or a filter"
            )

    def _count(self, checkpoint: Checkpoint) -> Iterator[CountedCodes]:
        """Yield the groups of chunks with the same tables."""
        for position, parts in groupby(self._parts, lambda part: part.events.table):
            checkpoint()
            listed = list(parts)
            known = [part.counts for part in listed if part.counts is not None]
            codes = [part.events.codes for part in listed if part.counts is None]
            yield count_codes(self._tables[position], codes, known)

    def _by_range(self, ranges: int) -> Iterator[list[GroupedEvents]]:
        """Yield the events of each range."""
        by_range = defaultdict[int, list[tuple[_Part, int, int]]](list)
        for part in self._parts:
            for index, start, end in zip(part.indexes, part.bounds, part.bounds[1:], strict=False):
                if start < end:
                    by_range[index].append((part, start, end))
        for index in range(ranges):
            yield [part.events.part(start, end) for part, start, end in by_range[index]]

    def _with_names(self, tables: Sequence[ValueTable]) -> list[ValueTable]:
        """Return tables with event names in the place of their ids."""
        return [
            table if dimension is not None else _name_table(table, self.names)
            for dimension, table in zip(self._dimensions, tables, strict=True)
        ]


def _bounds(events: MatchingEvents, selection: Selection) -> list[int]:
    """Return where the ranges begin and end among the selected events."""
    if len(events.indexes) == 1:
        return [0, selection.count]
    if selection.is_whole:
        return [position - events.start for position in events.positions]
    return events.bounds


def _compact(codes: Codes, size: int) -> Codes:
    """Return codes below `size` in fewer bytes, unless they are an array of the chunk."""
    return codes.astype(np.min_scalar_type(size), copy=False) if codes.flags.owndata else codes


def _by(
    dimension: Path | None, events: MatchingEvents, selection: Selection
) -> tuple[Memberships, ValueTable]:
    if dimension is not None:
        return by_property(events, dimension, selection)
    name_ids = selection.of(events.chunk.name[events.start : events.stop])
    ids = np.arange(int(name_ids.max()) + 1)
    return Memberships(name_ids), ValueTable(ScaledNumbers(ids, 0), NO_TEXTS)


def _name_table(ids: ValueTable, names: Mapping[int, str]) -> ValueTable:
    """Return the table of event names with the codes that their ids have."""
    numbers = python_values(ids.numbers)
    return ValueTable(NO_NUMBERS, pa.array([names[int(each)] for each in numbers], pa.string()))


def count_codes(
    tables: tuple[ValueTable, ...],
    parts: Sequence[Codes],
    known: Sequence[NDArray[np.int64]] = (),
) -> CountedCodes:
    """Return how many events each group has, from the codes of parts with the same tables.

    `known` has the numbers of events of further parts by code.
    """
    size = prod(map(len, tables))
    if not known and size > max(_FEW, _DENSE * sum(map(len, parts))):
        codes, events = np.unique_counts(np.concatenate(parts))
        return CountedCodes(tables, codes.astype(np.int64), events)
    sums = np.zeros(size, np.int64)
    for part in parts:
        sums += np.bincount(part, minlength=size)
    for counts in known:
        sums[: len(counts)] += counts
    present = np.flatnonzero(sums)
    return CountedCodes(tables, present, sums[present])


def _series_counts(counts: CategoryCounts, other: int) -> list[Count]:
    """Return the counts of a range: of each group of the ranking, and of all others."""
    return [*counts.each()[:other], counts.union((other, other + 1))]


def _groups(
    ranking: Ranking, counts: CategoryCounts, buckets: Sequence[Sequence[Count]], events: int
) -> Groups:
    other = ranking.other
    series = list(map(list, zip(*buckets, strict=True))) or [[]] * (other + 1)
    lacking = [position for position, values in enumerate(ranking.values) if None in values]
    return Groups(
        Count(events, counts.union(range(other + 2)).users),
        list(map(GroupCount, ranking.values, counts.each(), series)),
        ranking.other_groups,
        GroupCount((), counts.union((other, other + 1)), series[other]),
        counts.union([*lacking, other + 1]),
    )
