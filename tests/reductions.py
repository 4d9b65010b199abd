"""Reductions over chunks of a few events, without a database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from common.cells import Cell
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.filter_evaluation import EventFields, field_conditions, matching_ids
from repo.engine.scan import Scanner
from repo.engine.timeline import Timeline, microseconds
from repo.queries.base import ScanReduction
from tests.source_comparison import no_checkpoint

Reduction = ScanReduction[Any, Any]


def record(number: int, user: int, name: int, at: datetime, properties: str = "{}") -> EventRecord:
    """An event whose id is a number."""
    return EventRecord(
        time=microseconds(at),
        user=user,
        name=name,
        xid=1,
        event_id=number.to_bytes(16, "big"),
        properties=properties,
    )


def collected(
    reduction: Reduction, chunks: Iterable[Sequence[EventRecord]], names: Mapping[str, int]
) -> Any:
    """The collector of a reduction, after chunks in this order; `names` are ids of event names."""
    scan, collector = reduction.scan(), reduction.collector()
    ids = {
        condition: matching_ids(condition.test, names)
        for part in scan.all_filters
        for condition in field_conditions(part)
    }
    scanner = Scanner(scan, collector, EventFields(ids), None, None)
    for records in chunks:
        chunk = build_chunk(list(records))
        if len(chunk):
            slices = Timeline(scan.ranges).slices(int(chunk.time[0]), int(chunk.time[-1]))
            scanner.add_parts(chunk, slices)
    return collector


def listed(reduction: Any, collector: Any, cell: Cell) -> list[int]:
    """The users of a cell in order; with sessions they may repeat."""
    return sorted(reduction.cell_users(collector, cell, no_checkpoint).tolist())
