"""Chunks made of other chunks: merged, cut, or without some of their events."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from repo.columns.chunk import Chunk, Column, ColumnKey, event_order, rows_or_none
from repo.columns.values import count_values, taken, united, value_bytes

_FIELDS = ("time", "user", "name", "xid", "event_id")


def concatenate(chunks: Sequence[Chunk]) -> Chunk:
    """Return the events of at least one chunk as one chunk.

    Among tied rows those without an id come first: see `ties_without_ids`.
    """
    stacked = _stack(chunks)
    return take(stacked, event_order(stacked.time, stacked.user, stacked.event_id))


def select(chunk: Chunk, keep: NDArray[np.bool_]) -> Chunk:
    """Return the events for which a mask is true; dictionaries have only the values that remain."""
    return take(chunk, np.flatnonzero(keep))


def take(chunk: Chunk, rows: NDArray[np.intp]) -> Chunk:
    """Return the events at rows, in the order of these, which are distinct."""
    if len(rows) == len(chunk) and np.array_equal(rows, np.arange(len(rows))):
        return chunk
    new_rows = np.full(len(chunk), -1, np.int32)
    new_rows[rows] = np.arange(len(rows), dtype=np.int32)
    taken_columns = {
        key: _take_values(column, rows, new_rows) for key, column in chunk.properties.items()
    }
    return Chunk(
        **{name: getattr(chunk, name)[rows] for name in _FIELDS},
        properties={key: column for key, column in taken_columns.items() if column},
    )


def split(chunk: Chunk, max_events: int) -> list[Chunk]:
    """Return a chunk as chunks of `max_events` events; the last has the rest."""
    rows = np.arange(len(chunk))
    return [take(chunk, rows[first:][:max_events]) for first in rows[::max_events].tolist()]


def without_properties(chunk: Chunk) -> Chunk:
    return replace(chunk, properties={})


def memory_bytes(chunk: Chunk) -> int:
    """Return the memory that a chunk takes."""
    size = sum(int(getattr(chunk, name).nbytes) for name in _FIELDS)
    for column in chunk.properties.values():
        size += value_bytes(column.values) + (0 if column.rows is None else column.rows.nbytes)
    return size


def _stack(chunks: Sequence[Chunk]) -> Chunk:
    """Return the events of chunks one chunk after the other."""
    columns: dict[ColumnKey, list[tuple[int, Column]]] = defaultdict(list)
    count = 0
    for chunk in chunks:
        for key, column in chunk.properties.items():
            columns[key].append((count, column))
        count += len(chunk)
    return Chunk(
        **{name: np.concatenate([getattr(each, name) for each in chunks]) for name in _FIELDS},
        properties={key: _stack_columns(columns[key], count) for key in sorted(columns)},
    )


def _stack_columns(parts: Sequence[tuple[int, Column]], count: int) -> Column:
    """Return columns, each with the row at which it begins, as a column of `count` events."""
    rows = np.concatenate([_rows(column) + np.int32(first) for first, column in parts])
    return Column(united([column.values for _, column in parts]), rows_or_none(rows, count))


def _take_values(
    column: Column, rows: NDArray[np.intp], new_rows: NDArray[np.int32]
) -> Column | None:
    """Return the values at rows, whose numbers become those of `new_rows`, or None without any."""
    if column.rows is None:
        return Column(taken(column.values, rows)) if len(rows) else None
    moved = new_rows[column.rows]
    positions = np.flatnonzero(moved >= 0)
    moved = moved[positions]
    if not len(moved):
        return None
    if (np.diff(moved) < 0).any():
        # The values of a list stay in their order.
        order = np.argsort(moved, kind="stable")
        positions, moved = positions[order], moved[order]
    return Column(taken(column.values, positions), rows_or_none(moved, len(rows)))


def _rows(column: Column) -> NDArray[np.int32]:
    if column.rows is None:
        return np.arange(count_values(column.values), dtype=np.int32)
    return column.rows
