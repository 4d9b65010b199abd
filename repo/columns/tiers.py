"""Merge small chunks into larger ones.

Chunks of one tier are merged when there are eight of them, or when they are as large as a chunk may
be. So each event is written a few times, and few small chunks are left. Chunks of fresh and of late
events are merged apart, since late events are of any time, and so are chunks that lack properties,
since filters on these are refused where such a chunk is.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from config.database import Cursor
from repo.columns.builder import build_batch
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import concatenate
from repo.columns.chunk_table import SQL, ChunkRow, all_paths, delete_chunks, read_all_columns
from repo.columns.chunk_writer import FAN_IN, MAX_CHUNK_BYTES, MAX_CHUNK_EVENTS, ChunkWriter
from repo.columns.codec import decode_chunk
from repo.columns.tied_events import with_ids
from repo.columns.unwritten_events import LIMITS, EventPages

# Larger chunks stay as they are: two others fit into one.
_LARGE_EVENTS = MAX_CHUNK_EVENTS // 2
_LARGE_BYTES = MAX_CHUNK_BYTES // 2


def find_merge(cur: Cursor, generation: int) -> Sequence[ChunkRow]:
    """Return chunks to be merged into one, of which there are at least two; empty if none are."""
    limits = {"max_events": _LARGE_EVENTS, "max_bytes": _LARGE_BYTES}
    cur.execute(SQL["columns_small_chunks"], {"generation": generation, **limits})
    return next_merge([ChunkRow(*row) for row in cur])


def next_merge(rows: Iterable[ChunkRow]) -> Sequence[ChunkRow]:
    """Return which of these small chunks, in the order of their ids, are to be merged next."""
    groups: dict[tuple[int, bool, bool, int], list[ChunkRow]] = defaultdict(list)
    for row in rows:
        groups[row.tier, row.is_late, row.has_properties, row.complete_to].append(row)
    for _, group in sorted(groups.items()):
        if merged := _first_of(group):
            return merged
    return ()


def _first_of(group: Sequence[ChunkRow]) -> Sequence[ChunkRow]:
    """Return the oldest chunks of a group that make one chunk; empty if they are too few."""
    events = size = 0
    for count, row in enumerate(group):
        events, size = events + row.events, size + row.bytes
        if events > MAX_CHUNK_EVENTS or size > MAX_CHUNK_BYTES:
            return group[:count]
        if count + 1 == FAN_IN:
            return group[:FAN_IN]
    return ()


def merge(cur: Cursor, generation: int, rows: Sequence[ChunkRow], writer: ChunkWriter) -> None:
    """Replace chunks by one of the next tier."""
    pages = EventPages(cur, LIMITS)
    merged = with_ids(
        concatenate(list(read_whole_chunks(cur, generation, rows))),
        lambda ties: map(build_batch, pages.tied_events(ties)),
    )
    first = rows[0]
    delete_chunks(cur, generation, [row.chunk_id for row in rows])
    writer.write(
        merged,
        is_late=first.is_late,
        tier=first.tier + 1,
        has_properties=first.has_properties,
        complete_to=first.complete_to,
    )


def read_whole_chunks(cur: Cursor, generation: int, rows: Sequence[ChunkRow]) -> Iterator[Chunk]:
    """Yield chunks with all of their columns."""
    paths = {path_id: path for path, path_id in all_paths(cur, generation).items()}
    for row in rows:
        columns = read_all_columns(cur, generation, [row.chunk_id])
        yield decode_chunk({stored.column: bytes(stored.data) for stored in columns}, paths)
