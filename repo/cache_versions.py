"""Cache versions: which months late events have changed, and the version of the last erasure."""

from dataclasses import dataclass, replace
from datetime import datetime

from common.decorators import with_cursor
from config.database import Connection, Cursor
from repo.columns.cache import NO_CHUNKS, LiveChunks, read_live_chunks
from repo.database_identity import has_identity, read_database_state
from repo.engine.watermark import Months, format_cache_version, read_watermark
from repo.statements import statements

SQL = statements("cache_versions")


@dataclass(frozen=True, slots=True)
class CacheVersions:
    """The versions of the months that late events have changed, within one lineage."""

    lineage: str
    memory_key: str
    newest: int
    versions: dict[int, int]

    def for_months(self, months: Months) -> str:
        """Return the cache version of an answer that depends on these months."""
        first, last = months
        changed = (version for month, version in self.versions.items() if first <= month <= last)
        return format_cache_version(self.lineage, max(changed, default=0))


@dataclass(frozen=True, slots=True)
class CacheState:
    """The database state in cache keys: identity, last erasure and versions of months."""

    identity: str
    """The identity of the database, which its replicas share."""
    age_s: float
    """Minimum age of the data in seconds: how far a replica is behind; 0 on a primary."""
    erasure_version: str
    """The last erasure and the horizon, both of which remove events; empty before the first."""
    cache_versions: CacheVersions | None = None
    """None while late events are not tracked: without rollups, and during a backfill."""
    tail_since: datetime | None = None
    """The time of the last fold if there is a tail, else None."""
    live_chunks: LiveChunks = NO_CHUNKS
    """The chunks of columns, all others of which may be forgotten."""


class CacheVersionsRepo:
    """Reads the state of the cache, which each worker process polls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_state(
        self, cur: Cursor, previous: CacheVersions | None, chunks: LiveChunks = NO_CHUNKS
    ) -> CacheState | None:
        """Return the current state, given what was read before; None without a schema."""
        # This is polled, so the query for a schema is skipped where the connection has shown one.
        if self.connection.identity is None and not has_identity(cur):
            return None
        identity, erasure_version, now = read_database_state(cur)
        age_s = max((now - cur.now).total_seconds(), 0.0)
        watermark = read_watermark(cur)
        if watermark is None:
            return CacheState(identity, age_s, erasure_version)
        chunks = read_live_chunks(cur, watermark.generation, watermark.memory_key, chunks)
        tail_since = watermark.folded_range.end if watermark.tail_events else None
        # Versions are raised when late events are folded, which may take minutes in a backfill.
        if watermark.is_backfilling:
            return CacheState(identity, age_s, erasure_version, None, tail_since, chunks)
        if previous is None or previous.memory_key != watermark.memory_key:
            previous = CacheVersions(watermark.lineage, watermark.memory_key, -1, {})
        versions = _with_changes(cur, previous)
        return CacheState(identity, age_s, erasure_version, versions, tail_since, chunks)


def _with_changes(cur: Cursor, previous: CacheVersions) -> CacheVersions:
    cur.execute(SQL["cache_versions_since"], {"since": previous.newest})
    if changed := dict(cur.fetchall()):
        versions = {**previous.versions, **changed}
        return replace(previous, newest=max(changed.values()), versions=versions)
    return previous
