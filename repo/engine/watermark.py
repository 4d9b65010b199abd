"""The watermark: up to where events are folded, as one snapshot sees it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from psycopg2.extensions import cursor

from config.database import Cursor
from repo.engine.tail import NO_BACKFILL, BackfillCursor, Snapshot, tail_ranges
from repo.statements import compose, statements
from utils.prepared_statements import prepared_statement
from utils.time.calendar import Range
from utils.time.slots import LEAD, slot_start

SQL = statements("rollups")
# From this many events on, their users are joined at once instead of looked up one by one.
LONG_TAIL_EVENTS = 20_000

# Every query reads this first. Planning took two thirds of its time: 374 µs, and 121 prepared.
WATERMARK = prepared_statement(compose(SQL["rollups_state"], limit=str(LONG_TAIL_EVENTS)))


Months = tuple[int, int]
"""The first and last UTC month, counted from year 0."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """The current generation of the rollups, and its state."""

    generation: int
    lineage: str
    """Identifies the rollups, the database and its timeline; replicas have the same one."""
    memory_key: str
    """The lineage and the start of the server: the key of what a process may cache."""
    folded_range: Range
    """The times of events in slots, extended back so that it begins before their first month."""
    sealed_version: int
    """The version at which a sealed span last changed."""
    name_count: int
    """The number of event names."""
    changed_version: int
    """The version at which late events last changed the queried months; 0 if they never did."""
    cache_version: str
    """The cache version of the queried months, a part of the keys of cached responses."""
    horizon: datetime | None
    """The time before which events were dropped; None if none were."""
    now: Snapshot
    """The snapshot of the query."""
    folded: Snapshot
    """All events that it sees are folded, so their users and names have ids."""
    backfill_to: Snapshot
    """The events that the backfill in progress folds."""
    backfill_cursor: BackfillCursor
    """How far this backfill has come; NO_BACKFILL if none is in progress."""
    tail_events: int
    """Events stored since the last fold, up to LONG_TAIL_EVENTS, including backfilled ones."""
    has_tail: bool
    """Whether there may be events that are not folded: stored since the last fold, or set aside
    since they were in the future."""

    @property
    def tail(self) -> dict[str, Any]:
        """The parameters of statements that read the tail."""
        # Events before the horizon may not be deleted yet, but are folded: the tail has none.
        return {
            "generation": self.generation,
            "folded_at": self.folded_range.end,
            "horizon": self.horizon or "-infinity",
            **tail_ranges(self.now, self.folded, self.backfill_to, self.backfill_cursor),
        }

    @property
    def is_backfilling(self) -> bool:
        """Whether a backfill is in progress."""
        return self.backfill_cursor != NO_BACKFILL

    @property
    def has_long_tail(self) -> bool:
        """Whether the tail has at least LONG_TAIL_EVENTS."""
        return self.tail_events >= LONG_TAIL_EVENTS


def read_watermark(cur: Cursor, months: Months | None = None) -> Watermark | None:
    """Return the watermark; None if queries must be answered from the events."""
    first, last = months or (0, 0)
    cur.execute_prepared(WATERMARK, {"first_month": first, "last_month": last})
    row = cur.fetchone()
    return _watermark(*row) if row else None


def format_cache_version(lineage: str, version: int) -> str:
    """Return a cache version as text, a part of the keys of cached responses."""
    return f"{lineage}.{version}"


def read_user_count(cur: cursor) -> int:
    """Return the highest ordinal, about the number of all users."""
    cur.execute(SQL["rollups_max_ordinal"])
    (users,) = cur.fetchone() or (0,)
    return int(users)


def read_horizon(cur: Cursor) -> datetime | None:
    """Return the time before which events were dropped; None if none were."""
    cur.execute(SQL["rollups_horizon"])
    row = cur.fetchone()
    return cast(datetime, row[0]) if row else None


def _watermark(
    generation: int,
    lineage: str,
    server_started_at: datetime,
    folded_at: datetime,
    first_slot: int | None,
    sealed_version: int,
    now: str,
    snapshot: str,
    backfill_to: str,
    cursor_until: str,
    cursor_id: str,
    tail_events: int,
    has_early_events: bool,
    name_count: int,
    changed_version: int,
    horizon: datetime | None,
) -> Watermark:
    cache_version = format_cache_version(lineage, changed_version)
    first = folded_at if first_slot is None else slot_start(first_slot - LEAD)
    return Watermark(
        generation,
        lineage,
        f"{lineage}@{server_started_at.isoformat()}",
        Range(first, folded_at),
        sealed_version,
        name_count,
        changed_version,
        cache_version,
        horizon,
        Snapshot(now),
        Snapshot(snapshot),
        Snapshot(backfill_to),
        BackfillCursor(cursor_until, cursor_id),
        tail_events,
        tail_events > 0 or has_early_events,
    )
