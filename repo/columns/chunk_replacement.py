"""Read chunks of a generation as a whole, and write what is left of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from config.database import Cursor
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import memory_bytes
from repo.columns.chunk_table import (
    ChunkHead,
    ChunkRow,
    all_paths,
    delete_chunks,
    read_columns,
    write_chunk,
)
from repo.columns.codec import FORMAT, decode, encode_chunk, field_key
from repo.columns.tiers import read_whole_chunks

_USER = field_key("user")


class ChunkReplacer:
    """Edits chunks of a generation, in a transaction with the lock on columns."""

    def __init__(self, cur: Cursor, generation: int) -> None:
        self._cur = cur
        self._generation = generation
        self._path_ids = all_paths(cur, generation)

    def read_users(self, rows: Sequence[ChunkRow]) -> dict[int, NDArray[np.uint32]]:
        """Return the ordinals in chunks by the ids of the chunks."""
        chunk_ids = [row.chunk_id for row in rows]
        stored = read_columns(self._cur, self._generation, chunk_ids, [_USER])
        return {chunk_id: _users(bytes(data)) for chunk_id, _, data in stored}

    def read(self, row: ChunkRow) -> Chunk:
        """Return a chunk with all of its columns."""
        (chunk,) = read_whole_chunks(self._cur, self._generation, [row])
        return chunk

    def delete(self, row: ChunkRow) -> None:
        """Delete a chunk."""
        delete_chunks(self._cur, self._generation, [row.chunk_id])

    def write(self, chunk: Chunk, original: ChunkRow, *, has_properties: bool) -> None:
        """Write events of a chunk that are left, if there are any."""
        if not len(chunk):
            return
        head = ChunkHead(
            format=FORMAT,
            tier=original.tier,
            is_late=original.is_late,
            has_properties=has_properties,
            events=len(chunk),
            bytes=memory_bytes(chunk),
            first=int(chunk.time[0]),
            last=int(chunk.time[-1]),
            complete_to=original.complete_to,
        )
        # With the ids of events as they are: some tie with events of other chunks.
        write_chunk(self._cur, self._generation, head, encode_chunk(chunk, self._path_ids))


def _users(data: bytes) -> NDArray[np.uint32]:
    users = decode(data, {_USER})[_USER]
    assert isinstance(users, np.ndarray)
    return users
