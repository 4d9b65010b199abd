"""Folding: what is committed and not folded yet is added to the rollups, each event just once.

One transaction folds all events that its snapshot sees and the snapshot of the last fold did not,
and stores its own. So neither the order in which writers commit nor how long they take matters.
Of very many events it takes the oldest, and stores how far it came: a sweep.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import connection, cursor

from common.answers import SETTLED_AFTER
from config.database import Cursor
from config.database_errors import DatabaseUnavailable
from repo.engine.tail import NO_BACKFILL, BackfillCursor, Snapshot
from repo.rollups import metrics_outbox
from repo.rollups.aggregate import Batch, Rows
from repo.rollups.bitmap_store import add_slots, add_spans
from repo.statements import statements
from repo.transactions import commit

SQL = statements("fold")

_LOCK_WAIT = timedelta(minutes=2)
"""How much older the time of a fold may be than what it sees: it may have waited for the lock."""


@dataclass(slots=True)
class Progress:
    """The row of fold_state, and what its transaction sees."""

    generation: int
    is_current: bool
    is_reported: bool
    """Whether what it folds was not counted before."""
    now: datetime
    """Never before that of the last fold, whatever became of the clock."""
    until: datetime
    """Up to where slots are to hold events: not up to now where very many wait for their time."""
    visible_snapshot: Snapshot
    folded_snapshot: Snapshot
    backfill_to: Snapshot
    backfill_cursor: BackfillCursor
    version: int
    sealed_version: int
    first_slot: int | None
    touched_slots: frozenset[int] = frozenset()
    """The slots that events were added to."""
    first_slot_before: int | None = None
    """Where there were events before that were the first."""

    @property
    def is_backfilling(self) -> bool:
        return self.backfill_cursor != NO_BACKFILL

    @property
    def is_behind(self) -> bool:
        """Whether there is more to fold at once."""
        return self.is_backfilling or self.until < self.now

    @property
    def is_caught_up(self) -> bool:
        """Whether all is folded that this transaction sees, and so all that others folded."""
        return self.folded_snapshot == self.visible_snapshot


class GenerationReplaced(LookupError):
    """Another generation has taken the place of this one."""


class HistoryLost(DatabaseUnavailable):
    """Events were dropped, and what was counted of them is gone: it is only in a backup."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@contextmanager
def snapshot_locked(conn: connection) -> Iterator[Cursor]:
    """A transaction in which nobody else folds, seals or counts."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["fold_tables"])
        try:
            cur.execute(SQL["fold_lock"])
            cur.execute(SQL["fold_now"])
            (cur.as_of,) = cur.fetchone() or ()
            yield cur
        except BaseException:
            if not conn.closed:
                cur.execute("rollback")
            raise
        commit(cur, "the last step may be done")


def begin(cur: cursor) -> int:
    """A new generation, in a transaction of `snapshot_locked`. Raises: Lost."""
    cur.execute(SQL["fold_has_lost"])
    if cur.fetchone() != (False,):
        raise HistoryLost
    cur.execute(SQL["fold_begin"])
    (generation,) = cur.fetchone() or (0,)
    cur.execute(SQL["fold_keep"], {"generation": generation})
    metrics_outbox.forget_foreign(cur)
    return int(generation)


@contextmanager
def locked(conn: connection, generation: int) -> Iterator[tuple[cursor, Progress]]:
    """The same, for a generation. Raises: Gone."""
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
    """Add what was taken to the rollups; tell how many events. To be stored after."""
    batch = Batch(claimed, progress.until)
    progress.version = max(progress.version + 1, int(progress.now.timestamp() * 1_000_000))
    if len(batch):
        _add_batch(cur, progress, batch)
    return len(batch)


def store(cur: cursor, progress: Progress) -> None:
    """The last thing that a transaction of `locked` does, which must have folded."""
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
    cur.execute(SQL["fold_store"], params)


def _add_batch(cur: cursor, progress: Progress, batch: Batch) -> None:
    deltas = batch.deltas()
    progress.touched_slots = frozenset(slot for slot, _ in deltas)
    first_slot = min(progress.touched_slots)
    if progress.first_slot is None or first_slot < progress.first_slot:
        progress.first_slot_before, progress.first_slot = progress.first_slot, first_slot
    if add_spans(cur, progress.generation, progress.version, deltas):
        progress.sealed_version = progress.version
    add_slots(cur, progress.generation, deltas)
    if progress.is_reported:
        metrics_outbox.add(cur, batch.names())
    late = batch.months_before(progress.now - SETTLED_AFTER + _LOCK_WAIT)
    if late and progress.is_current:
        cur.execute(SQL["fold_late"], {"months": late, "version": progress.version})
