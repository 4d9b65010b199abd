"""Up to where the folder has come, as one snapshot sees it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from psycopg2.extensions import cursor

from config.database import Cursor
from repo.engine.tail import NO_BACKFILL, BackfillCursor, Snapshot, tail_ranges
from repo.statements import statements
from utils.prepared_statements import prepared_statement
from utils.time.calendar import Range
from utils.time.slots import LEAD, slot_start

SQL = statements("rollups")
LONG_TAIL_EVENTS = 20_000
"""Events whose users are looked up all at once."""
WATERMARK = prepared_statement(SQL["rollups_state"].replace("{many}", str(LONG_TAIL_EVENTS)))


Months = tuple[int, int]
"""The first and the last month of UTC, counted from year 0."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """The generation that questions ask."""

    generation: int
    lineage: str
    """The same only for generations with the same past, on a replica too."""
    memory_key: str
    """The same within a lineage until the server restarts: of what a process may remember."""
    folded_range: Range
    """When the events in slots occurred; the months and days that they begin in are whole."""
    sealed_version: int
    """The version at which a sealed span last changed."""
    name_count: int
    """How many event names there are."""
    changed_version: int
    """The version at which late events last changed the months asked about; 0: never."""
    horizon: datetime | None
    """Before which events are dropped: what is not in slots cannot be told."""
    tail: dict[str, Any]
    """What tells events that are not folded from those that are."""
    is_backfilling: bool
    """Whether some of very many events are folded, and others are not."""
    tail_events: int
    """How many events came in since the last fold, up to MANY; swept ones are among them."""
    has_early_events: bool
    """Whether there are events that were folded before their time."""

    @property
    def has_tail(self) -> bool:
        """Whether there may be more than what is folded."""
        return self.tail_events > 0 or self.has_early_events

    @property
    def has_long_tail(self) -> bool:
        """Whether very many events are not folded."""
        return self.tail_events >= LONG_TAIL_EVENTS


def read_watermark(cur: Cursor, months: Months | None = None) -> Watermark | None:
    """None where questions must be answered from the events themselves."""
    first, last = months or (0, 0)
    cur.execute_prepared(WATERMARK, {"first_month": first, "last_month": last})
    row = cur.fetchone()
    return _watermark(*row) if row else None


def read_user_count(cur: cursor) -> int:
    """Of how many users sets may be."""
    cur.execute(SQL["rollups_users"])
    (users,) = cur.fetchone() or (0,)
    return int(users)


def read_horizon(cur: Cursor) -> datetime | None:
    """Before which events are dropped; None where none is."""
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
    first = folded_at if first_slot is None else slot_start(first_slot - LEAD)
    backfill_cursor = BackfillCursor(cursor_until, cursor_id)
    tail = {
        "generation": generation,
        "folded_at": folded_at,
        "horizon": horizon or "-infinity",
        **tail_ranges(Snapshot(now), Snapshot(snapshot), Snapshot(backfill_to), backfill_cursor),
    }
    return Watermark(
        generation,
        lineage,
        f"{lineage}@{server_started_at.isoformat()}",
        Range(first, folded_at),
        sealed_version,
        name_count,
        changed_version,
        horizon,
        tail,
        backfill_cursor != NO_BACKFILL,
        tail_events,
        has_early_events,
    )
