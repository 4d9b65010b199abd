"""What has changed the past: late events, month by month, and erasures."""

from dataclasses import dataclass, replace
from datetime import datetime

from common.decorators import with_cursor
from config.database import Connection, Cursor
from repo.database_identity import has_identity, read_database_state
from repo.engine.watermark import Months, read_watermark
from repo.statements import statements

SQL = statements("cache_versions")


def format_cache_version(lineage: str, version: int) -> str:
    """What is part of the keys of answers."""
    return f"{lineage}.{version}"


@dataclass(frozen=True, slots=True)
class CacheVersions:
    """The months that late events have changed."""

    lineage: str
    memory_key: str
    newest: int
    versions: dict[int, int]

    def for_months(self, months: Months) -> str:
        first, last = months
        changed = (version for month, version in self.versions.items() if first <= month <= last)
        return format_cache_version(self.lineage, max(changed, default=0))


@dataclass(frozen=True, slots=True)
class CacheState:
    """What is to be known of it."""

    identity: str
    """Of the database: the same for its replicas alone."""
    age_s: float
    """How old it is at least: how far a replica is behind."""
    erasure_version: str
    """The last one, and the horizon: whatever takes events away; before the first, nothing."""
    cache_versions: CacheVersions | None = None
    """None where late events are not counted: without rollups, and while very many are folded."""
    tail_since: datetime | None = None
    """The last fold, if events have come in that it did not take."""


class CacheVersionsRepo:
    """Asked again and again by each worker."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_state(self, cur: Cursor, previous: CacheVersions | None) -> CacheState | None:
        """What is so now, None without a schema; `known` is what was known before."""
        # It is asked very often: a connection that was identified when it was opened has a schema.
        if self.connection.identity is None and not has_identity(cur):
            return None
        identity, erasure_version, now = read_database_state(cur)
        age_s = max((now - cur.as_of).total_seconds(), 0.0)
        watermark = read_watermark(cur)
        if watermark is None:
            return CacheState(identity, age_s, erasure_version)
        tail_since = watermark.folded_range.end if watermark.tail_events else None
        if watermark.is_backfilling:
            return CacheState(identity, age_s, erasure_version, None, tail_since)
        if previous is None or previous.memory_key != watermark.memory_key:
            previous = CacheVersions(watermark.lineage, watermark.memory_key, -1, {})
        return CacheState(
            identity, age_s, erasure_version, _with_changes(cur, previous), tail_since
        )


def _with_changes(cur: Cursor, previous: CacheVersions) -> CacheVersions:
    cur.execute(SQL["cache_versions_since"], {"since": previous.newest})
    if changed := dict(cur.fetchall()):
        versions = {**previous.versions, **changed}
        return replace(previous, newest=max(changed.values()), versions=versions)
    return previous
