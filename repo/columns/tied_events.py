"""Rows that are tied: events of the same user at the same time, whose order is that of their ids.

Tables store the ids of tied rows only, since an id takes more space than the rest of an event.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.columns.chunk import EVENT_ID, Chunk, Column, ColumnKey, event_order
from repo.columns.chunk_operations import take
from repo.columns.values import python_values


class Ties(NamedTuple):
    """Users and times of tied rows, in ascending order of time and user, without duplicates."""

    time: NDArray[np.int64]
    user: NDArray[np.uint32]


def tied_rows(chunk: Chunk) -> NDArray[np.bool_]:
    """Return which rows have the user and time of another row; users are needed to be tied."""
    is_tied = np.zeros(len(chunk), np.bool_)
    is_same = _is_same_as_next(chunk)
    is_tied[:-1] |= is_same
    is_tied[1:] |= is_same
    return is_tied


def without_untied_ids(chunk: Chunk, is_tied_elsewhere: NDArray[np.bool_] | None = None) -> Chunk:
    """Return a chunk with zeros for the ids of rows that are not tied.

    `is_tied_elsewhere` marks rows that are tied with rows of other chunks.
    """
    needs_id = tied_rows(chunk)
    if is_tied_elsewhere is not None:
        needs_id |= is_tied_elsewhere
    event_id = np.zeros(len(chunk), EVENT_ID)
    event_id[needs_id] = chunk.event_id[needs_id]
    return replace(chunk, event_id=event_id)


def ties_without_ids(chunk: Chunk) -> Ties:
    """Return the ties of which a row has no id, as after chunks were concatenated.

    Their rows are in no certain order until `with_ids` adds the ids.
    """
    lacks = np.flatnonzero(tied_rows(chunk) & ~has_id(chunk.event_id))
    time, user = chunk.time[lacks], chunk.user[lacks]
    is_first = np.ones(len(lacks), np.bool_)
    is_first[1:] = (np.diff(time) != 0) | (np.diff(user) != 0)
    return Ties(time[is_first], user[is_first])


def with_ids(chunk: Chunk, stored: Chunk) -> Chunk:
    """Return a chunk with ids for rows of ties, from a chunk of events that includes their events.

    `stored` may have further events of these users and times, which are in other chunks. A row
    gets the id of an event with the same fields, and the same properties where several have; it
    may be any of events that differ in nothing else. Rows whose events are not in `stored` stay
    without an id.
    """
    event_id = chunk.event_id.copy()
    events = _rows_by_fields(stored, np.arange(len(stored)))
    lacks = np.flatnonzero(tied_rows(chunk) & ~has_id(event_id))
    ids = stored.event_id.tolist()
    known = set(event_id[tied_rows(chunk)].tolist())
    for fields, rows in _rows_by_fields(chunk, lacks).items():
        unused = [event for event in events.get(fields, []) if ids[event] not in known]
        for row, event in _matches(chunk, rows, stored, unused):
            event_id[row] = stored.event_id[event]
    complete = replace(chunk, event_id=event_id)
    return take(complete, event_order(complete.time, complete.user, event_id))


def has_id(event_id: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which ids are not zeros."""
    is_set: NDArray[np.bool_] = np.ascontiguousarray(event_id).view(np.uint64).reshape(-1, 2) != 0
    return is_set[:, 0] | is_set[:, 1]


def _is_same_as_next(chunk: Chunk) -> NDArray[np.bool_]:
    time, user = chunk.time, chunk.user
    is_same: NDArray[np.bool_] = (time[1:] == time[:-1]) & (user[1:] == user[:-1])
    is_same &= user[1:] != 0
    return is_same


def _rows_by_fields(chunk: Chunk, rows: NDArray[np.intp]) -> dict[tuple[int, ...], list[int]]:
    """Return rows by time, user, name and transaction."""
    fields = [array[rows].tolist() for array in (chunk.time, chunk.user, chunk.name, chunk.xid)]
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, *key in zip(rows.tolist(), *fields, strict=True):
        groups[tuple(key)].append(row)
    return groups


def _matches(
    chunk: Chunk, rows: list[int], stored: Chunk, events: list[int]
) -> Iterator[tuple[int, int]]:
    """Yield rows of a chunk, each with the row of its event in `stored`."""
    if len(rows) == 1 == len(events):
        yield rows[0], events[0]
        return
    properties = {event: _properties(stored, event) for event in events}
    unmatched = []
    for row in rows:
        wanted = _properties(chunk, row)
        event = next((each for each, offered in properties.items() if offered == wanted), None)
        if event is None:
            unmatched.append(row)
        else:
            del properties[event]
            yield row, event
    # Properties may have been dropped, or left out.
    yield from zip(unmatched, properties, strict=False)


def _properties(chunk: Chunk, row: int) -> dict[ColumnKey, list[Any]]:
    """Return the values of an event."""
    values = {
        key: python_values(column.values, _part_of_row(column, row))
        for key, column in chunk.properties.items()
    }
    return {key: each for key, each in values.items() if each}


def _part_of_row(column: Column, row: int) -> slice:
    if column.rows is None:
        return slice(row, row + 1)
    # With row numbers of 8 bytes, numpy would convert all rows.
    return slice(*np.searchsorted(column.rows, np.array([row, row + 1], np.int32)).tolist())
