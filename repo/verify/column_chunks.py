"""Read the chunks of columns, and compare the list of chunks with them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor

from repo.verify.column_decoder import (
    KINDS,
    Arrays,
    BadColumn,
    ColumnId,
    StoredChunk,
    StoredColumn,
    decode_chunk,
    decode_column,
)
from repo.verify.column_events import CountedProperties
from repo.verify.column_state import ColumnState, Instants
from repo.verify.copy_rows import copy_rows
from repo.verify.fingerprints import EventRows, Hashes, Property
from repo.verify.report import Difference, Findings
from repo.verify.snapshot import SQL

_RECORD = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("path_id", ">i4"),
        ("l2", ">i4"), ("kind", ">i2"),
        ("l3", ">i4"),
    ]
)  # fmt: skip


class ListedChunk(NamedTuple):
    """A row of `column_chunks`."""

    chunk_id: int
    has_properties: bool
    events: int
    bytes: int
    first: int
    last: int

    def overlaps(self, span: Instants) -> bool:
        return self.first < span.end and max(self.first, self.last) >= span.start

    def begins_in(self, span: Instants) -> bool:
        return span.start <= self.first < span.end


def read_list(cur: cursor, state: ColumnState) -> list[ListedChunk]:
    """Return all rows of the list of chunks."""
    cur.execute(SQL["verify_column_chunks"], {"generation": state.generation})
    return [ListedChunk(*row) for row in cur]


class ChunkReader:
    """Reads chunks, and reports those that cannot be read or are not as listed."""

    def __init__(self, cur: cursor, state: ColumnState, findings: Findings) -> None:
        self._cur = cur
        self._state = state
        self._findings = findings

    def read(self, listed: ListedChunk) -> StoredChunk | None:
        """Return a chunk; None if it cannot be read."""
        arrays: dict[ColumnId, Arrays] = {}

        def take(heads: NDArray[np.void], values: list[bytes]) -> None:
            for head, data in zip(heads, values, strict=True):
                self._decode(listed, (int(head["path_id"]), int(head["kind"])), data, arrays)

        params = {"generation": self._state.generation, "chunk_id": listed.chunk_id}
        copy_rows(self._cur, SQL["verify_column_data"], params, _RECORD, take)
        try:
            return decode_chunk(arrays)
        except BadColumn as exc:
            self._report(listed, f"columns that cannot be read ({exc})", "all columns of a chunk")
            return None

    def _decode(
        self,
        listed: ListedChunk,
        column: ColumnId,
        data: bytes,
        arrays: dict[ColumnId, Arrays],
    ) -> None:
        try:
            arrays.update(decode_column(column, data))
        except BadColumn as exc:
            stored = f"{self._describe(column)} that cannot be read ({exc})"
            self._report(listed, stored, "a column")

    def check(self, listed: ListedChunk, chunk: StoredChunk) -> None:
        """Compare a chunk with its row in the list, and check what readers rely on."""
        self._findings.rows += 1
        if not _is_near(listed.bytes, size := chunk.memory_size()):
            self._report(listed, f"bytes {listed.bytes}", f"about {size}")
        stored = (listed.events, listed.first, listed.last)
        expected = (len(chunk.time), int(chunk.time[0]), int(chunk.time[-1]))
        if stored != expected:
            text = "events {}, first {}, last {}"
            self._report(listed, text.format(*stored), text.format(*expected))
        if chunk.columns and not listed.has_properties:
            self._report(listed, "columns of properties", "none, as has_properties is false")
        for problem in chunk.problems():
            self._report(listed, problem, "events in order")
        for column, values in chunk.columns.items():
            for problem in self._column_problems(column, values, len(chunk.time)):
                self._report(listed, f"{self._describe(column)} with {problem}", "none of these")

    def _column_problems(
        self, column: ColumnId, values: StoredColumn, events: int
    ) -> Iterator[str]:
        if column[0] not in self._state.paths:
            yield "a path_id that is not in column_paths"
        bounds = list(values.bounds_problems(events))
        yield from bounds or values.order_problems()

    def _describe(self, column: ColumnId) -> str:
        path_id, kind = column
        path = self._state.paths.get(path_id)
        if path is None or not 1 <= kind <= len(KINDS):
            return f"column {path_id}.{kind}"
        return f"column {Property(path.path, KINDS[kind - 1])}"

    def _report(self, listed: ListedChunk, stored: str, expected: str) -> None:
        key = f"chunk {listed.chunk_id}"
        self._findings.add(Difference("column_chunks", key, stored, expected))


def rows_of_chunk(
    state: ColumnState, chunk: StoredChunk, span: Instants, *, is_detailed: bool = False
) -> EventRows:
    """Return the events of a chunk in a range of time, without those of erased users."""
    selected = (chunk.time >= span.start) & (chunk.time < span.end)
    selected &= ~np.isin(chunk.user, state.erased)
    new_rows = np.cumsum(selected) - 1
    columns: dict[Property, tuple[NDArray[np.int64], Hashes]] = {}
    for (path_id, kind), column in chunk.columns.items():
        path = state.paths.get(path_id)
        if path is not None and not any(column.bounds_problems(len(chunk.time))):
            is_selected = selected[column.rows]
            rows = new_rows[column.rows[is_selected]]
            columns[Property(path.path, KINDS[kind - 1])] = (rows, column.hashes(is_selected))
    time = chunk.time[selected]
    properties = CountedProperties(state, is_detailed=is_detailed)
    return EventRows(
        time,
        chunk.user[selected],
        chunk.name[selected],
        chunk.xid[selected],
        chunk.event_id[selected],
        *properties.add_up(time, columns),
    )


def _is_near(stored: int, estimated: int) -> bool:
    # Arrow's buffers are padded, which the estimate leaves out.
    return abs(stored - estimated) <= estimated / 4 + 4_096
