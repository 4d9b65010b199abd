"""The catalog of columns: how far they are written, their chunks, and the ids of paths.

Each question reads the state in its snapshot. Chunks are cached until their version changes, and
ids of paths, which never change in a generation.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from config.database import Cursor
from repo.columns.chunk_table import (
    SQL,
    ChunkRow,
    ColumnState,
    Path,
    read_chunks,
    read_paths,
    select_chunks,
)
from repo.columns.column_tail import SQL as QUESTIONS
from repo.engine.tail import Snapshot
from repo.engine.timeline import microseconds
from repo.engine.watermark import Watermark
from utils.lru_cache import SharedLruCache
from utils.prepared_statements import prepared_statement
from utils.time.calendar import Range

MAX_CHUNKS = 2_000
"""A generation with more chunks is not cached: each question reads those of its range."""
_MAX_GENERATIONS = 4
_MAX_PATHS = 4_000

# Planning it takes longer than its execution.
_STATE = prepared_statement(QUESTIONS["column_questions_state"])


class _ChunkList(NamedTuple):
    """The chunks of a generation at a version; None if they are too many."""

    version: int
    chunks: Sequence[ChunkRow] | None


class _Generation(NamedTuple):
    memory_key: str
    generation: int


class CatalogCache:
    """A bounded cache of chunks and paths, shared by the threads of a process."""

    def __init__(self) -> None:
        self.chunks: SharedLruCache[_Generation, _ChunkList] = SharedLruCache(_MAX_GENERATIONS)
        self.paths: SharedLruCache[tuple[_Generation, Path], int] = SharedLruCache(_MAX_PATHS)


CATALOG_CACHE = CatalogCache()
"""The cache of this process."""


class ColumnCatalog:
    """Reads the catalog of the current generation, within one snapshot."""

    def __init__(
        self, cur: Cursor, watermark: Watermark, cache: CatalogCache = CATALOG_CACHE
    ) -> None:
        self._cur = cur
        self._watermark = watermark
        self._cache = cache
        self._key = _Generation(watermark.memory_key, watermark.generation)

    def state(self) -> ColumnState | None:
        """Return how far the columns are written; None if nothing is written."""
        params = {"generation": self._key.generation, "now": self._watermark.now.text}
        self._cur.execute_prepared(_STATE, params)
        row = self._cur.fetchone()
        if row is None:
            return None
        generation, snapshot, since, to, *others = row
        snapshots = (Snapshot(snapshot), Snapshot(since), Snapshot(to))
        return ColumnState(generation, *snapshots, *others)

    def chunks(self, state: ColumnState, span: Range) -> Sequence[ChunkRow]:
        """Return the chunks that overlap a range of time, by their first events."""
        chunks = self._all_chunks(state)
        if chunks is None:
            return read_chunks(self._cur, state.generation, span.start, span.end)
        start, end = microseconds(span.start), microseconds(span.end)
        return [chunk for chunk in chunks if chunk.last >= start and chunk.first < end]

    def path_ids(self, paths: Iterable[Path]) -> dict[Path, int]:
        """Return the ids of those of the paths that have columns."""
        keys = [(self._key, path) for path in paths]
        ids = self._cache.paths.get_many(keys)
        if missing := [path for key, path in keys if (key, path) not in ids]:
            # Paths without an id are not cached: the next chunk may have them.
            registered = read_paths(self._cur, self._key.generation, missing)
            read = {(self._key, path): path_id for path, path_id in registered.items()}
            self._cache.paths.put_many(read)
            ids |= read
        return {path: path_id for (_, path), path_id in ids.items()}

    def _all_chunks(self, state: ColumnState) -> Sequence[ChunkRow] | None:
        """Return all chunks; None if they are too many."""
        cached = self._cache.chunks.get(self._key)
        if cached and (cached.chunks is None or cached.version == state.version):
            return cached.chunks
        self._cur.execute(
            select_chunks(SQL["columns_first_chunks"]),
            {"generation": state.generation, "limit": MAX_CHUNKS + 1},
        )
        chunks = [ChunkRow(*row) for row in self._cur]
        listed = _ChunkList(state.version, chunks if len(chunks) <= MAX_CHUNKS else None)
        # Another thread may have a newer snapshot, or a replica an older one.
        if cached is None or cached.version < state.version:
            self._cache.chunks.put(self._key, listed)
        return listed.chunks
