"""Collect the numbers of a property by the values of another property."""

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.checkpoint import Checkpoint
from common.errors import TooExpensive
from common.filters import Value
from repo.columns.chunk_table import Path
from repo.columns.filter_evaluation import Mask
from repo.engine.grouping.collector import count_codes
from repo.engine.grouping.memberships import Memberships, Selection, by_property
from repo.engine.grouping.ranking import CountedCodes, Ranking, rank
from repo.engine.grouping.value_table import ValueTable
from repo.engine.number_collector import NumberCollector
from repo.engine.scan import MatchingEvents

_MAX_BYTES = 2**28


class NumberGroups(NamedTuple):
    """Numbers by the value of a property."""

    rows: list[tuple[Value | None, NumberCollector]]
    """The values of most events; None for events without a value."""
    other_values: int
    """The number of values that are not among the rows."""
    other: NumberCollector
    """The numbers of events with such a value."""
    missing: NumberCollector
    """The numbers of events without a value, also if they are among the rows."""


class _Part(NamedTuple):
    """Events of a chunk with their groups."""

    events: MatchingEvents
    memberships: Memberships
    table: int

    def mask(self, is_member: Mask) -> Mask:
        """Return which rows are events of which a membership is selected."""
        rows = self.memberships.rows
        positions = np.flatnonzero(is_member) if rows is None else rows[is_member]
        mask = np.zeros(len(self.events.mask), np.bool_)
        mask[np.flatnonzero(self.events.mask)[positions]] = True
        return mask


class GroupedNumberCollector:
    """Collects all numbers, and holds the groups of their events until the largest are known."""

    def __init__(self, by: Path, new_collector: Callable[[], NumberCollector]) -> None:
        self.total = new_collector()
        """The numbers of all events."""
        self._by = by
        self._new_collector = new_collector
        self._tables: list[ValueTable] = []
        self._parts: list[_Part] = []
        self._bytes = 0

    def add(self, events: MatchingEvents) -> None:
        """Raises: TooExpensive."""
        self.total.add(events)
        selection = Selection(events.mask, int(np.count_nonzero(events.mask)))
        if not selection.count:
            return
        memberships, table = by_property(events, self._by, selection)
        if not self._tables or not self._tables[-1].equals(table):
            self._tables.append(table)
        self._parts.append(_Part(events, memberships, len(self._tables) - 1))
        self._bytes += memberships.codes.nbytes + events.mask.nbytes
        if self._bytes > _MAX_BYTES:
            raise TooExpensive("bytes of groups", self._bytes, _MAX_BYTES, "a shorter range")

    def groups(self, limit: int, checkpoint: Checkpoint) -> NumberGroups:
        """Return the numbers of the values of most events; ties are in the order of values.

        Raises: TooExpensive, and what the checkpoint raises.
        """
        counted = self._count()
        ranking = rank(counted, limit, lambda tables: tables, checkpoint)
        rows = [self._new_collector() for _ in ranking.values]
        other, missing = self._new_collector(), self._new_collector()
        for part in self._parts:
            categories = _categories(part, counted[part.table], ranking)
            for category in np.unique(categories).tolist():
                checkpoint()
                collector = rows[category] if category < len(rows) else other
                _add(collector, part, categories == category)
            _add(missing, part, part.memberships.codes == self._tables[part.table].missing)
        values = [value for (value,) in ranking.values]
        return NumberGroups(
            list(zip(values, rows, strict=True)), ranking.other_groups, other, missing
        )

    def _count(self) -> list[CountedCodes]:
        """Return the number of events of each group, by table."""
        by_table = groupby(self._parts, lambda part: part.table)
        return [
            count_codes((self._tables[table],), [part.memberships.codes for part in parts])
            for table, parts in by_table
        ]


def _categories(part: _Part, counted: CountedCodes, ranking: Ranking) -> NDArray[np.int64]:
    """Return the category of each membership; all values that are not ranked have one."""
    positions = np.searchsorted(counted.codes, part.memberships.codes)
    return np.minimum(ranking.categories[part.table][positions], ranking.other)


def _add(collector: NumberCollector, part: _Part, is_member: Mask) -> None:
    if is_member.any():
        collector.add(replace(part.events, mask=part.mask(is_member)))
