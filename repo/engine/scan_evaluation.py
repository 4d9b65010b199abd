"""Evaluate scans of columns that were read, without a connection."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from common.checkpoint import Checkpoint
from common.filters import Name
from common.remarks import Remarks, Unknown
from repo.columns.cache import ChunkColumns, OpenedColumns
from repo.columns.chunk import Chunk, Column
from repo.columns.chunk_table import ChunkRow
from repo.columns.codec import FIELDS, field_key
from repo.columns.column_tail import TailEvents
from repo.columns.filter_evaluation import notes
from repo.engine.column_plan import ColumnPlan
from repo.engine.scan import MatchingEvents, OrderedCollector, Scanner
from repo.engine.timeline import Timeline
from repo.engine.user_choice import UserChoice


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
    """Event names of the scan that no event has."""
    choice: "ChoiceEvaluation | None"
    """Chooses the users whose events are collected; None for all events."""

    @property
    def size(self) -> int:
        """The bytes that were read, about."""
        return self.columns.size + self.tail.size + (self.choice.size if self.choice else 0)

    def __call__(self, checkpoint: Checkpoint) -> Remarks:
        """Collect all events.

        Raises: CorruptColumn, TooExpensive, and what the checkpoint raises.
        """
        self.scan_chunks(self.columns, checkpoint)
        checkpoint()
        tail = self.tail.chunk
        self._scan_parts(tail, self.scanner)
        unknown = [self._unknown(tail), *(self.choice.unknown if self.choice else [])]
        return Remarks(tuple(notes(self.scanner.skipped)), united(unknown))

    def add_in_order(self, ties: TailEvents, collector: OrderedCollector) -> None:
        """Give the collector events of ties again, which were read with their ids.

        Raises: TooExpensive.
        """
        adder = TieAdder(collector)
        self._scan_parts(ties.chunk, replace(self.scanner, collector=adder, skipped=Counter()))

    def _scan_parts(self, chunk: Chunk, scanner: Scanner) -> None:
        if len(chunk):
            first, last = int(chunk.time[0]), int(chunk.time[-1])
            scanner.add_parts(chunk, Timeline(self.plan.scan.ranges).slices(first, last))

    def scan_chunks(self, chunk_ids: Container[int], checkpoint: Checkpoint = lambda: None) -> None:
        """Collect the events of these chunks, which were read."""
        if self.choice:
            self.choice.run(checkpoint)
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

    def _unknown(self, tail: Chunk) -> Unknown:
        """Return the names in the scan that no event has."""
        known = {*self.plan.paths, *(key.path for key in tail.properties)}
        unknown = self.plan.scan.all_paths - known
        return Unknown(list(self.unknown_events), [str(Name(path)) for path in unknown])


@dataclass(frozen=True, slots=True)
class TieAdder:
    """Gives events of ties to a collector that has them already, without their order."""

    collector: OrderedCollector

    def add(self, events: MatchingEvents) -> None:
        self.collector.add_in_order(events)


@dataclass(slots=True)
class ChoiceEvaluation:
    """Chooses users, before the events of a scan are collected."""

    choice: UserChoice
    pending: list[ScanEvaluation]
    """The scans that count the events of users."""
    unknown: list[Unknown | None] = field(default_factory=list)
    """The names that no event has, of the scans that were run."""

    @property
    def size(self) -> int:
        """The bytes of columns that were read, about."""
        return sum(each.columns.size for each in self.pending)

    def run(self, checkpoint: Checkpoint) -> None:
        """Count the events, once. Raises: CorruptColumn, TooExpensive."""
        while self.pending:
            self.unknown.append(self.pending.pop()(checkpoint).unknown)


def united(parts: Sequence[Unknown | None]) -> Unknown | None:
    """Return all unknown names, sorted; None if there are none."""
    events = {name for part in parts if part for name in part.events}
    properties = {name for part in parts if part for name in part.properties}
    return Unknown(sorted(events), sorted(properties)) if events or properties else None
