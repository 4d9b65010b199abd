"""The tables of columns: the list of chunks, their columns as bytes, and the ids of paths."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg2.extensions import cursor

from config.database import Cursor
from repo.columns.codec import StoredKey
from repo.engine.tail import Snapshot
from repo.statements import compose, statements
from utils.copy_binary import decode, encode

SQL = statements("columns")

Path = tuple[str, ...]
"""The keys that lead to a property."""

ALL_PATHS = 2**31 - 1
"""Greater than the id of any path."""


class ColumnState(NamedTuple):
    """The progress of writing the columns of a generation."""

    generation: int
    snapshot: Snapshot
    """All events that it sees are written, except those that the backfill has not reached."""
    backfill_since: Snapshot
    backfill_to: Snapshot
    """The backfill writes what `backfill_to` sees and `backfill_since` does not."""
    backfilled_from: str
    """The backfill has written its events from this time and id on; `-infinity` without one."""
    backfilled_id: str
    version: int
    """Grows with each transaction that changes chunks."""
    columns_from: str
    """The time before which property columns were dropped; `-infinity` if none were."""
    left_out: bool
    """Whether properties were left out since there were too many paths."""
    events_from: str
    """The time before which events were dropped without being written; `-infinity` if none were."""
    erased: Sequence[int]
    """The ordinals of erased users that are still in chunks, ascending."""
    last_erasure: int
    """The number of the last erasure of a user; 0 if there was none."""
    has_tail: bool
    """Whether the reader's snapshot sees events that `snapshot` does not see."""

    @property
    def is_backfilling(self) -> bool:
        return self.backfilled_from != "-infinity"


class ChunkHead(NamedTuple):
    """The description of a chunk in the list of chunks, without its id."""

    format: int
    """The version of the encoding."""
    tier: int
    """How often the events were merged into a larger chunk."""
    is_late: bool
    """Whether the events were stored more than a day after they occurred."""
    has_properties: bool
    events: int
    bytes: int
    """The size in memory."""
    first: int
    """The time of the first event, in microseconds since 2000-01-01 UTC."""
    last: int
    complete_to: int = ALL_PATHS
    """The chunk may lack paths with a greater id."""


class ChunkRow(NamedTuple):
    """A row of the list of chunks: the id, and the fields of `ChunkHead`."""

    chunk_id: int
    format: int
    tier: int
    is_late: bool
    has_properties: bool
    events: int
    bytes: int
    first: int
    last: int
    complete_to: int = ALL_PATHS


class StoredColumn(NamedTuple):
    """A column of a chunk as it is stored."""

    chunk_id: int
    column: StoredKey
    data: memoryview


def read_version(cur: cursor, generation: int) -> int:
    """Return the version of a generation's columns; 0 if nothing is written."""
    cur.execute(SQL["columns_version"], {"generation": generation})
    (version,) = cur.fetchone() or (0,)
    return int(version)


def read_chunk_ids(cur: cursor, generation: int) -> list[int]:
    """Return the ids of all chunks."""
    cur.execute(SQL["columns_chunk_ids"], {"generation": generation})
    return [chunk_id for (chunk_id,) in cur]


def read_chunks(cur: cursor, generation: int, start: datetime, end: datetime) -> list[ChunkRow]:
    """Return the chunks that overlap a range of time, by their first events."""
    params = {"generation": generation, "start": start, "end": end}
    cur.execute(select_chunks(SQL["columns_chunks"]), params)
    return [ChunkRow(*row) for row in cur]


def select_chunks(statement: str) -> str:
    """Return a statement with the fields of `ChunkRow` in its `{chunk_row}`."""
    return compose(statement, chunk_row=SQL["columns_chunk_row"])


def read_columns(
    cur: Cursor, generation: int, chunk_ids: Sequence[int], columns: Iterable[StoredKey]
) -> Iterator[StoredColumn]:
    """Yield these columns of chunks, as far as chunks have them, in no order.

    Of a small chunk, all columns are yielded together, as `PACKED`.
    """
    params = _column_params(generation, chunk_ids, columns)
    return _decode(cur.copy_out(SQL["columns_read"], params))


def read_column_bytes(
    cur: cursor, generation: int, chunk_ids: Sequence[int], columns: Iterable[StoredKey]
) -> int:
    """Return the bytes that `read_columns` would read."""
    cur.execute(SQL["columns_bytes"], _column_params(generation, chunk_ids, columns))
    (size,) = cur.fetchone() or (0,)
    return int(size)


def read_all_columns(
    cur: Cursor, generation: int, chunk_ids: Sequence[int]
) -> Iterator[StoredColumn]:
    """Yield all columns of chunks, in no order."""
    params = {"generation": generation, "chunk_ids": list(chunk_ids)}
    return _decode(cur.copy_out(SQL["columns_read_all"], params))


def read_paths(cur: cursor, generation: int, paths: Iterable[Path]) -> dict[Path, int]:
    """Return the ids of those of the paths that have columns, which they keep in a generation."""
    listed = [path for path in paths if _can_be_stored(path)]
    cur.execute(SQL["columns_paths"], {"generation": generation, "paths": json.dumps(listed)})
    return {listed[position]: path_id for position, path_id in cur}


def all_paths(cur: cursor, generation: int) -> dict[Path, int]:
    """Return the ids of all paths of a generation."""
    cur.execute(SQL["columns_all_paths"], {"generation": generation})
    return {tuple(path): path_id for path, path_id in cur}


def register_paths(cur: cursor, generation: int, paths: Iterable[Path]) -> dict[Path, int]:
    """Give ids to new paths, and return them. The generation has a state."""
    params = {"generation": generation, "paths": json.dumps(list(paths))}
    cur.execute(SQL["columns_register_paths"], params)
    return {tuple(path): path_id for path, path_id in cur}


def register_kinds(cur: cursor, generation: int, columns: Sequence[StoredKey]) -> None:
    """Register the types that properties have, for the catalogue."""
    params = {
        "generation": generation,
        "path_ids": [column.path_id for column in columns],
        "kinds": [1 << (column.kind - 1) for column in columns],
    }
    cur.execute(SQL["columns_register_kinds"], params)


def read_erased_users(cur: cursor) -> list[int]:
    """Return the ordinals of erased users that are still in chunks, ascending."""
    cur.execute(SQL["columns_erased"])
    return [ordinal for (ordinal,) in cur]


def write_chunk(
    cur: cursor, generation: int, head: ChunkHead, columns: Mapping[StoredKey, bytes]
) -> int:
    """Store a chunk, and return its id."""
    cur.execute(SQL["columns_add_chunk"], {"generation": generation, **head._asdict()})
    (chunk_id,) = cur.fetchone() or (0,)
    rows = ((generation, chunk_id, *column, data) for column, data in columns.items())
    cur.copy_expert(SQL["columns_add_data"], io.BytesIO(encode(rows, "iqihb")))
    return int(chunk_id)


def delete_chunks(cur: cursor, generation: int, chunk_ids: Sequence[int]) -> None:
    """Delete chunks."""
    params = {"generation": generation, "chunk_ids": list(chunk_ids)}
    cur.execute(SQL["columns_delete_chunks"], params)


def _column_params(
    generation: int, chunk_ids: Sequence[int], columns: Iterable[StoredKey]
) -> dict[str, Any]:
    listed = list(columns)
    return {
        "generation": generation,
        "chunk_ids": list(chunk_ids),
        "path_ids": [column.path_id for column in listed],
        "kinds": [column.kind for column in listed],
    }


def _can_be_stored(path: Path) -> bool:
    # jsonb and text hold neither zero bytes nor surrogates, so no event has such a path.
    return not any("\0" in key or any("\ud800" <= char <= "\udfff" for char in key) for key in path)


def _decode(data: bytes) -> Iterator[StoredColumn]:
    for chunk_id, path_id, kind, column in decode(memoryview(data), "qihb"):
        yield StoredColumn(chunk_id, StoredKey(path_id, kind), column)
