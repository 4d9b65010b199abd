"""Take over the columns of dropped events, which cannot be built anew, into a new generation."""

from dataclasses import replace

import numpy as np

from config.database import Cursor
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import select
from repo.columns.chunk_replacement import ChunkReplacer
from repo.columns.chunk_table import ChunkRow, select_chunks
from repo.statements import statements

SQL = statements("columns_take_over")

_FIRST_XID = 3
"""A transaction that every snapshot sees."""


def take_over(cur: Cursor, generation: int) -> None:
    """Begin a generation with the columns of events before the horizon, if there is one.

    In a transaction with the lock on columns, before anything else is written.
    """
    cur.execute(SQL["columns_take_over_state"], {"generation": generation})
    cur.execute(SQL["columns_take_over_source"])
    if row := cur.fetchone():
        source, is_foreign, horizon = row
        _copy(cur, generation, source, horizon, is_foreign=is_foreign)


def _copy(cur: Cursor, generation: int, source: int, horizon: int, *, is_foreign: bool) -> None:
    params = {"generation": generation, "source": source}
    cur.execute(SQL["columns_take_over_paths"], params)
    if not is_foreign:
        cur.execute(SQL["columns_take_over_chunks"], params)
    cur.execute(select_chunks(SQL["columns_take_over_parts"]), params)
    rows = [ChunkRow(*row) for row in cur]
    reader, writer = ChunkReplacer(cur, source), ChunkReplacer(cur, generation)
    for row in rows:
        chunk = reader.read(row)
        dropped = select(chunk, chunk.time < horizon)
        part = _as_of_before(dropped) if is_foreign else dropped
        writer.write(part, row, has_properties=row.has_properties)


def _as_of_before(chunk: Chunk) -> Chunk:
    """Return a chunk of another cluster, whose transaction ids have no meaning here."""
    return replace(chunk, xid=np.full(len(chunk), _FIRST_XID, np.int64))
