"""The folded part of the tail of columns, which a process keeps as a chunk and extends.

Its users and names have ids, and it is the same for all questions between two folds: the events
that the snapshot of the rollups sees and that of the columns does not.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from common.errors import ColumnsBuilding
from config.database import Cursor
from repo.columns.builder import build_chunk
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import memory_bytes
from repo.columns.chunk_table import ColumnState
from repo.columns.column_tail import NameIds, TailLimits, TailReader, folded_backlog, joined
from repo.engine.tail import Snapshot, tail_ranges
from repo.engine.watermark import Watermark
from utils.lru_cache import SharedLruCache
from utils.time.calendar import Range

MAX_EVENTS = 10_000
MAX_BYTES = 4 * 2**20
"""A tail with more events, or that needs about so much memory, is read by each question."""
_MAX_GENERATIONS = 4
_ALWAYS = [Range(datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))]


class _Origin(NamedTuple):
    """The state of a tail; another one when events have left it."""

    written: Snapshot
    last_erasure: int
    horizon: datetime | None


class _FoldedTail(NamedTuple):
    origin: _Origin
    folded: Snapshot
    chunk: Chunk | None
    """None if the tail is too long, or a user or a name has no id."""


class FoldedTailCache:
    """A bounded cache, shared by the threads of a process."""

    def __init__(self) -> None:
        self.tails: SharedLruCache[tuple[str, int], _FoldedTail] = SharedLruCache(_MAX_GENERATIONS)


FOLDED_TAIL_CACHE = FoldedTailCache()
"""The cache of this process."""


def read_folded_tail(
    cur: Cursor,
    watermark: Watermark,
    state: ColumnState,
    name_ids: NameIds,
    cache: FoldedTailCache = FOLDED_TAIL_CACHE,
) -> Chunk | None:
    """Return the folded events that are in no chunk; None if each question has to read them.

    Only events that were folded since the last question are read.
    """
    key = (watermark.memory_key, watermark.generation)
    origin = _Origin(state.snapshot, state.last_erasure, watermark.horizon)
    kept = cache.tails.get(key)
    if kept is None or kept.origin != origin or not _covers(watermark.folded, kept.folded):
        kept = _FoldedTail(origin, state.snapshot, build_chunk([]))
    if kept.folded == watermark.folded or kept.chunk is None:
        return kept.chunk
    chunk = _extended(cur, watermark, kept.folded, kept.chunk, name_ids)
    cache.tails.put(key, _FoldedTail(origin, watermark.folded, chunk))
    return chunk


def _covers(snapshot: Snapshot, earlier: Snapshot) -> bool:
    """Return whether a snapshot sees all that another one sees."""
    return not tail_ranges(earlier, snapshot)["first_xids"]


def _extended(
    cur: Cursor, watermark: Watermark, since: Snapshot, chunk: Chunk, name_ids: NameIds
) -> Chunk | None:
    """Return a chunk with the events that were folded since a snapshot, or None."""
    limits = TailLimits(MAX_EVENTS - len(chunk), MAX_BYTES - memory_bytes(chunk))
    backlog = folded_backlog(watermark.folded, since)
    reader = TailReader(cur, backlog, watermark.horizon, limits)
    try:
        events = reader.read(_ALWAYS, (), name_ids)
    except ColumnsBuilding:
        return None
    return None if events.has_temporary_ids else joined(chunk, events.chunk)
