"""Fold events: add those that are committed and not folded yet to the rollups, exactly once.

A fold is one transaction. It adds the events that its snapshot sees and the snapshot of the last
fold did not, and stores its own snapshot, so the order and the duration of writers' transactions do
not matter. If there are very many events, it folds the oldest and stores its cursor: a backfill.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from config.database_errors import DatabaseUnavailable
from repo.engine.tail import NO_BACKFILL, BackfillCursor, Snapshot
from repo.rollups import metrics_outbox
from repo.rollups.aggregate import Batch, Rows
from repo.rollups.bitmap_store import add_slots, add_spans
from repo.statements import statements
from repo.transactions import commit
from utils.time.slots import SETTLED_AFTER

SQL = statements("fold")

# The time of a fold is that of its beginning, and it sees what was committed while it waited for
# the lock: events look less late by as much.
_LOCK_WAIT = timedelta(minutes=2)


@dataclass(slots=True)
class Progress:
    """The row of `fold_state` of a generation, which a fold changes and stores."""

    generation: int
    is_current: bool
    is_reported: bool
    """Whether its events count for the metrics; a rebuild folds events that were counted."""
    now: datetime
    """The time of this fold; never before that of the last one, even if the clock was put back."""
    until: datetime
    """The time up to which events are folded; before `now` if very many future events are due."""
    visible_snapshot: Snapshot
    folded_snapshot: Snapshot
    backfill_to: Snapshot
    backfill_cursor: BackfillCursor
    version: int
    sealed_version: int
    first_slot: int | None
    touched_slots: frozenset[int] = frozenset()
    """The slots that this fold has added events to."""
    first_slot_before: int | None = None
    """The first slot before this fold, if it has folded an earlier one; else None."""

    @property
    def is_backfilling(self) -> bool:
        return self.backfill_cursor != NO_BACKFILL

    @property
    def is_behind(self) -> bool:
        """Whether there is more to fold immediately."""
        return self.is_backfilling or self.until < self.now

    @property
    def is_caught_up(self) -> bool:
        """Whether all events that this transaction sees are folded."""
        return self.folded_snapshot == self.visible_snapshot


class GenerationReplaced(LookupError):
    """The generation no longer exists: another one has replaced it."""


class HistoryLost(DatabaseUnavailable):
    """Events were dropped, and the rollups that counted them are only in a backup: restore it."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@contextmanager
def snapshot_locked(conn: connection) -> Iterator[Cursor]:
    """Open a transaction that excludes all others that fold, seal or count daily statistics."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["fold_create_staging"])
        try:
            # The lock comes before the first query, which takes the snapshot: the snapshot must see
            # what the previous holder has committed.
            cur.execute(SQL["fold_lock"])
            cur.execute(SQL["fold_now"])
            (cur.now,) = cur.fetchone() or ()
            yield cur
        except BaseException:
            if not conn.closed:
                cur.execute("rollback")
            raise
        commit(cur, "the last step may have been stored")


def begin(cur: cursor) -> int:
    """Create a generation, within `snapshot_locked`, and return its number. Raises: HistoryLost."""
    cur.execute(SQL["fold_has_lost_history"])
    if cur.fetchone() != (False,):
        raise HistoryLost
    cur.execute(SQL["fold_begin"])
    (generation,) = cur.fetchone() or (0,)
    cur.execute(SQL["fold_copy_retained_slots"], {"generation": generation})
    metrics_outbox.forget_foreign(cur)
    return int(generation)


@contextmanager
def locked(conn: connection, generation: int) -> Iterator[tuple[cursor, Progress]]:
    """Open a transaction of `snapshot_locked` for a generation. Raises: GenerationReplaced."""
    with snapshot_locked(conn) as cur:
        yield cur, _progress(cur, generation)


def _progress(cur: cursor, generation: int) -> Progress:
    cur.execute(SQL["fold_state"], {"generation": generation})
    row = cur.fetchone()
    if row is None:
        raise GenerationReplaced
    (
        state_generation,
        is_current,
        is_reported,
        now,
        visible_snapshot,
        folded_snapshot,
        backfill_to,
        cursor_until,
        cursor_id,
        *rest,
    ) = row
    snapshots = (Snapshot(visible_snapshot), Snapshot(folded_snapshot), Snapshot(backfill_to))
    return Progress(
        state_generation,
        is_current,
        is_reported,
        now,
        now,
        *snapshots,
        BackfillCursor(cursor_until, cursor_id),
        *rest,
    )


def fold(cur: cursor, progress: Progress, claimed: Sequence[Rows]) -> int:
    """Add claimed events to the rollups; return their number. Call `store` afterwards."""
    batch = Batch(claimed, progress.until)
    # At least the time in microseconds, so that versions also grow from one generation to the next.
    progress.version = max(progress.version + 1, int(progress.now.timestamp() * 1_000_000))
    if len(batch):
        _add_batch(cur, progress, batch)
    return len(batch)


def store(cur: cursor, progress: Progress) -> None:
    """Store the progress of a fold, as the last statement of a transaction of `locked`."""
    params: dict[str, Any] = {
        "generation": progress.generation,
        "snapshot": progress.folded_snapshot.text,
        "sweeping_to": progress.backfill_to.text,
        "swept_until": progress.backfill_cursor.until,
        "swept_id": progress.backfill_cursor.event_id,
        "folded_at": progress.until,
        "version": progress.version,
        "sealed": progress.sealed_version,
        "first_slot": progress.first_slot,
    }
    cur.execute(SQL["fold_update_state"], params)


def _add_batch(cur: cursor, progress: Progress, batch: Batch) -> None:
    deltas = batch.deltas()
    progress.touched_slots = frozenset(slot for slot, _ in deltas)
    first_slot = min(progress.touched_slots)
    if progress.first_slot is None or first_slot < progress.first_slot:
        progress.first_slot_before, progress.first_slot = progress.first_slot, first_slot
    # Before the slots: `add_slots` changes the deltas to the new contents of their rows.
    if add_spans(cur, progress.generation, progress.version, deltas):
        progress.sealed_version = progress.version
    add_slots(cur, progress.generation, deltas)
    if progress.is_reported:
        metrics_outbox.add(cur, batch.names())
    late = batch.months_before(progress.now - SETTLED_AFTER + _LOCK_WAIT)
    if late and progress.is_current:
        cur.execute(SQL["fold_raise_month_versions"], {"months": late, "version": progress.version})
