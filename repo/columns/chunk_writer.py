"""Write the chunks of one transaction, and register their paths."""

from config.database import Cursor
from repo.columns.builder import EventBatch, PathLimit, build_batch
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import concatenate, memory_bytes
from repo.columns.chunk_table import (
    ALL_PATHS,
    ChunkHead,
    all_paths,
    register_kinds,
    register_paths,
    write_chunk,
)
from repo.columns.codec import FORMAT, StoredKey, encode_chunk, property_key
from repo.columns.tied_events import without_untied_ids
from repo.columns.unwritten_events import MAX_BYTES

MAX_CHUNK_EVENTS = 131_072
MAX_CHUNK_BYTES = 64 * 2**20
"""In memory."""

FAN_IN = 8
"""Chunks of one tier that are merged."""
_SMALLEST_EVENTS = 1_000


class ChunkWriter:
    """Writes chunks of a generation in one transaction."""

    def __init__(self, cur: Cursor, generation: int, max_paths: int) -> None:
        self._cur = cur
        self._generation = generation
        self._path_ids = all_paths(cur, generation)
        self.admits = PathLimit(set(self._path_ids), max_paths)
        """Decides which paths have columns."""
        self.chunks = 0
        """The number of chunks that were written."""
        self.new_events = 0
        """The number of events that were not in columns before."""

    @property
    def left_out(self) -> bool:
        """Whether values of a path were left out."""
        return self.admits.left_out

    def write(
        self,
        chunk: Chunk,
        *,
        is_late: bool,
        tier: int | None = None,
        has_properties: bool = True,
        complete_to: int | None = None,
    ) -> None:
        """Write a chunk; without a tier, it gets that of chunks of its size.

        Without `complete_to`, it is a chunk of new events, and all its paths have passed `admits`.
        """
        self._register_paths()
        head = ChunkHead(
            format=FORMAT,
            tier=tier_of(len(chunk)) if tier is None else tier,
            is_late=is_late,
            has_properties=has_properties,
            events=len(chunk),
            bytes=memory_bytes(chunk),
            first=int(chunk.time[0]),
            last=int(chunk.time[-1]),
            complete_to=self._complete_to if complete_to is None else complete_to,
        )
        columns = encode_chunk(without_untied_ids(chunk), self._path_ids)
        write_chunk(self._cur, self._generation, head, columns)
        if complete_to is None:
            register_kinds(self._cur, self._generation, self._kinds(chunk))
        self.chunks += 1

    def _kinds(self, chunk: Chunk) -> list[StoredKey]:
        return [property_key(self._path_ids[key.path], key.kind) for key in chunk.properties]

    @property
    def _complete_to(self) -> int:
        # A path that was admitted in this transaction is not left out later.
        return max(self._path_ids.values(), default=0) if self.left_out else ALL_PATHS

    def _register_paths(self) -> None:
        if self.admits.new:
            self._path_ids |= register_paths(self._cur, self._generation, self.admits.new)
            self.admits.new.clear()


class ChunkStream:
    """Collects events for chunks as large as possible."""

    def __init__(self, writer: ChunkWriter, *, is_late: bool) -> None:
        self._writer = writer
        self._is_late = is_late
        self._parts: list[Chunk] = []
        self._bytes = 0

    @property
    def _events(self) -> int:
        return sum(map(len, self._parts))

    @property
    def is_full(self) -> bool:
        """Whether the events are enough for a chunk."""
        return self._events > MAX_CHUNK_EVENTS // 2 or self._bytes > MAX_CHUNK_BYTES // 2

    def add(self, batch: EventBatch) -> None:
        """Add the events of a page."""
        if not len(batch.time):
            return
        has_many = self._events + len(batch.time) > MAX_CHUNK_EVENTS
        if has_many or self._bytes > MAX_CHUNK_BYTES - MAX_BYTES:
            self.finish()
        self._parts.append(build_batch(batch, self._writer.admits))
        self._bytes += memory_bytes(self._parts[-1])

    def finish(self) -> None:
        """Write the events that were added as a chunk."""
        if self._parts:
            # Parts of a backfill do not overlap, so concatenating them in order moves no event.
            parts = sorted(self._parts, key=lambda part: int(part.time[0]))
            self._writer.write(concatenate(parts), is_late=self._is_late)
        self._parts.clear()
        self._bytes = 0


def tier_of(events: int) -> int:
    """Return how often chunks of this size were merged, if they began small."""
    tier = 0
    while events >= _SMALLEST_EVENTS * FAN_IN ** (tier + 1):
        tier += 1
    return tier
