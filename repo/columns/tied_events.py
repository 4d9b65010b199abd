"""Rows that are tied: events of the same user at the same time, whose order is that of their ids.

Tables store the ids of tied rows only, since an id takes more space than the rest of an event.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.columns.chunk import EVENT_ID, Chunk, Column, ColumnKey, event_order
from repo.columns.chunk_operations import take
from repo.columns.values import python_values

_MAX_TIES = 10_000
"""The most ties whose events one statement reads."""


class Ties(NamedTuple):
    """Users and times of tied rows, in ascending order of time and user, without duplicates."""

    time: NDArray[np.int64]
    user: NDArray[np.uint32]

    @property
    def size(self) -> int:
        """The number of ties."""
        return len(self.time)


NO_TIES = Ties(np.zeros(0, np.int64), np.zeros(0, np.uint32))


def distinct_ties(time: NDArray[np.int64], user: NDArray[np.uint32]) -> Ties:
    """Return the ties of rows in any order, which may repeat."""
    order = np.lexsort((user, time))
    time, user = time[order], user[order]
    is_first = np.ones(len(time), np.bool_)
    is_first[1:] = (np.diff(time) != 0) | (np.diff(user) != 0)
    return Ties(time[is_first], user[is_first])


def rows_of_ties(time: NDArray[np.int64], user: NDArray[np.uint32], ties: Ties) -> NDArray[np.intp]:
    """Return the rows that have the user and time of one of the ties, ascending."""
    candidates = np.flatnonzero(np.isin(user, ties.user))
    candidates = candidates[np.isin(time[candidates], ties.time)]
    wanted = set(zip(ties.time.tolist(), ties.user.tolist(), strict=True))
    pairs = zip(time[candidates].tolist(), user[candidates].tolist(), strict=True)
    return candidates[[pair in wanted for pair in pairs]] if len(candidates) else candidates


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
    return distinct_ties(chunk.time[lacks], chunk.user[lacks])


def with_ids(chunk: Chunk, read: Callable[[Ties], Iterable[Chunk]]) -> Chunk:
    """Return a chunk with ids for rows of ties.

    `read` returns chunks that together have the events of ties; it may also return events of these
    users and times that are in other chunks. A row gets the id of an event with the same fields and
    properties; it may be any of events that differ in nothing else. Rows that are left, whose
    properties were dropped or left out, get that of an event with the same fields. Rows whose
    events `read` does not return stay without an id.
    """
    for is_exact in (True, False):
        ties = ties_without_ids(chunk)
        for start in range(0, ties.size, _MAX_TIES):
            part = slice(start, start + _MAX_TIES)
            stored = iter(read(Ties(ties.time[part], ties.user[part])))
            first = list(islice(stored, 2))
            for page in chain(first, stored):
                chunk = _with_some_ids(chunk, page, is_all=len(first) < 2, is_exact=is_exact)
    return take(chunk, event_order(chunk.time, chunk.user, chunk.event_id))


def _with_some_ids(chunk: Chunk, stored: Chunk, *, is_all: bool, is_exact: bool) -> Chunk:
    """Return a chunk with the ids of those events of `stored` that are its rows, in any order.

    `is_all` tells whether `stored` has all events of ties. With `is_exact` properties are compared.
    """
    event_id = chunk.event_id.copy()
    events = _rows_by_fields(stored, np.arange(len(stored)))
    lacks = np.flatnonzero(tied_rows(chunk) & ~has_id(event_id))
    ids = stored.event_id.tolist()
    known = set(event_id[tied_rows(chunk)].tolist())
    for fields, rows in _rows_by_fields(chunk, lacks).items():
        unused = [event for event in events.get(fields, []) if ids[event] not in known]
        is_certain = is_all and len(rows) == 1 == len(unused)
        matches = (
            _exact_matches(chunk, rows, stored, unused)
            if is_exact and not is_certain
            else zip(rows, unused, strict=False)
        )
        for row, event in matches:
            event_id[row] = stored.event_id[event]
    return replace(chunk, event_id=event_id)


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


def _exact_matches(
    chunk: Chunk, rows: list[int], stored: Chunk, events: list[int]
) -> Iterator[tuple[int, int]]:
    """Yield rows of a chunk, each with the row of its event in `stored`."""
    properties = {event: _properties(stored, event) for event in events}
    for row in rows if events else ():
        wanted = _properties(chunk, row)
        event = next((each for each, offered in properties.items() if offered == wanted), None)
        if event is not None:
            del properties[event]
            yield row, event


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
