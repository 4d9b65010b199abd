"""Up to where the folder has come, as one snapshot sees it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from psycopg2.extensions import cursor

from config.database import Cursor
from repo.rollups.waiting import NOT_SWEEPING, Snapshot, Swept, waiting
from repo.statements import statements
from utils.kept import kept
from utils.slots import LEAD, slot_start
from utils.timebuckets import Range

SQL = statements("rollups")
MANY = 20_000
"""Events whose users are looked up all at once."""
STATE = kept(SQL["rollups_state"].replace("{many}", str(MANY)))


Months = tuple[int, int]
"""The first and the last month of UTC, counted from year 0."""


@dataclass(frozen=True, slots=True)
class State:
    """The generation that questions ask."""

    generation: int
    lineage: str
    """The same only for generations with the same past, on a replica too."""
    memory_key: str
    """The same within a lineage until the server restarts: of what a process may remember."""
    folded: Range
    """When the events in slots occurred; the months and days that they begin in are whole."""
    sealed: int
    """The version at which a sealed span last changed."""
    names: int
    """How many event names there are."""
    changed: int
    """The version at which late events last changed the months asked about; 0: never."""
    horizon: datetime | None
    """Before which events are dropped: what is not in slots cannot be told."""
    tail: dict[str, Any]
    """What tells events that are not folded from those that are."""
    is_sweeping: bool
    """Whether some of very many events are folded, and others are not."""
    waiting: int
    """How many events came in since the last fold, up to MANY; swept ones are among them."""
    has_early: bool
    """Whether there are events that were folded before their time."""

    @property
    def has_tail(self) -> bool:
        """Whether there may be more than what is folded."""
        return self.waiting > 0 or self.has_early

    @property
    def has_long_tail(self) -> bool:
        """Whether very many events are not folded."""
        return self.waiting >= MANY


def read_state(cur: Cursor, months: Months | None = None) -> State | None:
    """None where questions must be answered from the events themselves."""
    first, last = months or (0, 0)
    cur.execute_kept(STATE, {"first_month": first, "last_month": last})
    row = cur.fetchone()
    return _state(*row) if row else None


def read_users(cur: cursor) -> int:
    """Of how many users sets may be."""
    cur.execute(SQL["rollups_users"])
    (users,) = cur.fetchone() or (0,)
    return int(users)


def read_horizon(cur: Cursor) -> datetime | None:
    """Before which events are dropped; None where none is."""
    cur.execute(SQL["rollups_horizon"])
    row = cur.fetchone()
    return cast(datetime, row[0]) if row else None


def _state(
    generation: int,
    lineage: str,
    server_started_at: datetime,
    folded_at: datetime,
    first_slot: int | None,
    sealed: int,
    now: str,
    snapshot: str,
    sweeping_to: str,
    swept_until: str,
    swept_id: str,
    recent: int,
    has_early: bool,
    names: int,
    changed: int,
    horizon: datetime | None,
) -> State:
    first = folded_at if first_slot is None else slot_start(first_slot - LEAD)
    swept = Swept(swept_until, swept_id)
    tail = {
        "generation": generation,
        "folded_at": folded_at,
        "horizon": horizon or "-infinity",
        **waiting(Snapshot(now), Snapshot(snapshot), Snapshot(sweeping_to), swept),
    }
    return State(
        generation,
        lineage,
        f"{lineage}@{server_started_at.isoformat()}",
        Range(first, folded_at),
        sealed,
        names,
        changed,
        horizon,
        tail,
        swept != NOT_SWEEPING,
        recent,
        has_early,
    )
