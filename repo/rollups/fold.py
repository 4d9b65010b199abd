"""Fold events: add those that are committed and not folded yet to the stores, exactly once.

A fold is one transaction. It adds the events that its snapshot sees and the snapshot of the last
fold did not, and stores its own snapshot, so the order and the duration of writers' transactions do
not matter. If there are very many events, it folds the oldest and stores its cursor: a backfill.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from config.database_errors import DatabaseUnavailable
from repo.commit_outcome import commit
from repo.engine.tail import ALL_XIDS, Snapshot, tail_ranges
from repo.rollups import metrics_outbox
from repo.rollups.aggregate import Batch
from repo.rollups.fold_state import Progress, read_progress
from repo.rollups.store import Store
from repo.statements import statements
from utils.time.slots import SETTLED_AFTER

SQL = statements("fold")

# The time of a fold is that of its beginning, and it sees what was committed while it waited for
# the lock: events look less late by as much.
_LOCK_WAIT = timedelta(minutes=2)


class HistoryLost(DatabaseUnavailable):
    """Events were dropped, and the rollups that counted them are only in a backup: restore it."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@contextmanager
def snapshot_locked(conn: connection, *, with_columns: bool = False) -> Iterator[Cursor]:
    """Open a transaction that excludes all others that fold, seal or count daily statistics.

    Also those that write columns, if `with_columns`.
    """
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["fold_create_staging"])
        try:
            # The lock comes before the first query, which takes the snapshot: the snapshot must see
            # what the previous holder has committed.
            cur.execute(SQL["fold_lock_with_columns" if with_columns else "fold_lock"])
            cur.execute(SQL["fold_now"])
            (cur.now,) = cur.fetchone() or ()
            yield cur
        except BaseException:
            if not conn.closed:
                cur.execute("rollback")
            raise
        commit(cur, "the last step may have been stored")


@contextmanager
def locked(conn: connection, generation: int) -> Iterator[tuple[Cursor, Progress]]:
    """Open a transaction of `snapshot_locked` for a generation. Raises: GenerationReplaced."""
    with snapshot_locked(conn) as cur:
        yield cur, read_progress(cur, generation)


def begin(cur: Cursor, stores: Iterable[Store]) -> int:
    """Create a generation, within `snapshot_locked`, and return its number. Raises: HistoryLost."""
    cur.execute(SQL["fold_has_lost_history"])
    if cur.fetchone() != (False,):
        raise HistoryLost
    cur.execute(SQL["fold_begin"])
    (generation,) = cur.fetchone() or (0,)
    progress = read_progress(cur, generation)
    for store in stores:
        store.rebuild(cur, progress)
    metrics_outbox.forget_foreign(cur)
    return int(generation)


def fold(cur: cursor, progress: Progress, batch: Batch, stores: Iterable[Store]) -> None:
    """Add a batch of events to the stores. Call `write_progress` afterwards."""
    # At least the time in microseconds, so that versions also grow from one generation to the next.
    progress.version = max(progress.version + 1, int(progress.now.timestamp() * 1_000_000))
    if not len(batch):
        return
    progress.include_slot(min(batch.slots))
    for store in stores:
        store.apply(cur, progress, batch)
    if progress.is_reported:
        metrics_outbox.add(cur, batch.names())
    late = batch.months_before(progress.now - SETTLED_AFTER + _LOCK_WAIT)
    if late and progress.is_current:
        cur.execute(SQL["fold_raise_month_versions"], {"months": late, "version": progress.version})


def count_tail(cur: cursor, limit: int) -> int:
    """Return the number of events that are not folded, up to a limit, without a lock."""
    cur.execute(SQL["fold_snapshot"])
    now, folded = cur.fetchone() or ()
    tail = tail_ranges(Snapshot(now), Snapshot(folded)) if folded else ALL_XIDS
    cur.execute(SQL["fold_count_tail"], {**tail, "limit": limit})
    (count,) = cur.fetchone() or (0,)
    return int(count)
