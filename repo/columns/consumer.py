"""Write folded events to columns, exactly once.

A step is one transaction under a lock. It writes the events that the watermark of the rollups sees
and that of the columns does not, and then moves the latter, so the order and the duration of
writers' transactions do not matter. If there are very many events, they are a backfill: the latest
are written first, some in each step, and new events before them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.builder import EventBatch
from repo.columns.chunk_table import SQL
from repo.columns.chunk_writer import ChunkStream, ChunkWriter
from repo.columns.tiers import find_merge, merge
from repo.columns.unwritten_events import (
    BACKFILL_START,
    LIMITS,
    EventPages,
    Limits,
)
from repo.columns.user_ordinals import MissingIds, UserOrdinals
from repo.commit_outcome import commit
from repo.engine.tail import NO_BACKFILL, NOTHING_FOLDED, BackfillCursor, Snapshot, tail_ranges
from repo.engine.watermark import read_user_count
from repo.rollups.fold import snapshot_locked
from repo.statements import statements

FOLD = statements("fold")

MAX_NEW_EVENTS = 500_000
"""If more are unwritten, they are a backfill."""
LAZY_EVENTS = 1_000
LAZY_S = 60
"""New events are written when there are so many, or so long after the last batch."""

NO_END: Mapping[int, Snapshot] = {}

_DAY_US = 86_400_000_000


@dataclass(slots=True)
class ColumnProgress:
    """The row of `column_state` of a generation, which a step changes and stores."""

    generation: int
    folded_snapshot: Snapshot
    written_snapshot: Snapshot
    backfill_since: Snapshot
    backfill_to: Snapshot
    backfill_cursor: BackfillCursor
    """The backfill has written its events from here on."""
    left_out: bool
    is_overdue: bool
    """Whether new events have to be written, even if they are few."""
    now: int
    """In microseconds since 2000-01-01 UTC."""

    @property
    def is_backfilling(self) -> bool:
        return self.backfill_cursor != NO_BACKFILL

    @property
    def new_ranges(self) -> dict[str, list[str]]:
        """The ids of the transactions whose events are folded and not written."""
        return tail_ranges(self.folded_snapshot, self.written_snapshot)

    def has_written(self, snapshot: Snapshot) -> bool:
        """Return whether no event that a snapshot sees is new; the backfill may lack some."""
        return not tail_ranges(snapshot, self.written_snapshot)["first_xids"]

    def begin_backfill(self) -> None:
        """Let the backfill write all new events."""
        self.backfill_since, self.backfill_to = self.written_snapshot, self.folded_snapshot
        self.written_snapshot, self.backfill_cursor = self.folded_snapshot, BACKFILL_START

    def end_backfill(self) -> None:
        self.backfill_since = self.backfill_to = NOTHING_FOLDED
        self.backfill_cursor = NO_BACKFILL

    def backfill(self) -> dict[str, Any]:
        """Return parameters of statements that select what the backfill has not written."""
        return {
            "backfill_since": self.backfill_since.text,
            "backfill_to": self.backfill_to.text,
            "backfilled_from": self.backfill_cursor.until,
            "backfilled_id": self.backfill_cursor.event_id,
            **tail_ranges(self.backfill_to, self.backfill_since),
        }


@contextmanager
def columns_locked(conn: connection) -> Iterator[Cursor]:
    """Open a transaction that excludes all others that change chunks."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["columns_session"])
        try:
            cur.execute(SQL["columns_lock"])
            yield cur
        except BaseException:
            if not conn.closed:
                cur.execute("rollback")
            raise
        commit(cur, "the last events may have been written to columns")


class Consumer:
    """Writes events to columns, in transactions of its own that exclude other consumers."""

    def __init__(
        self,
        conn: connection,
        max_paths: int,
        *,
        until: Mapping[int, Snapshot] = NO_END,
        limits: Limits = LIMITS,
        max_new_events: int = MAX_NEW_EVENTS,
        ordinals: UserOrdinals | None = None,
    ) -> None:
        """`conn` must be in autocommit; a generation has columns of at most `max_paths` paths.

        Of a generation in `until`, no new events are written when all that the snapshot sees are.
        """
        self._conn = conn
        self._max_paths = max_paths
        self._until = until
        self._limits = limits
        self._max_new_events = max_new_events
        self._ordinals = ordinals or UserOrdinals()
        self.written_events = 0
        """Events of all steps that were committed."""

    def step(self, *, is_lazy: bool) -> int:
        """Write some events to columns, if there are any to be written; return the chunks.

        If `is_lazy`, few new events wait for more of them, but not for long.
        """
        for generation in self._generations():
            if chunks := self._try_step(generation, is_lazy=is_lazy):
                return chunks
        return 0

    def _generations(self) -> list[int]:
        with self._conn.cursor() as cur:
            cur.execute(SQL["columns_generations"])
            return [generation for (generation,) in cur]

    def _try_step(self, generation: int, *, is_lazy: bool) -> int:
        # Without the lock, for which each step of another consumer would have to wait.
        with self._conn.cursor(cursor_factory=Cursor) as cur:
            progress = read_progress(cur, generation)
            if progress is None or not self._has_work(cur, progress, is_lazy=is_lazy):
                return 0
        try:
            return self._step(generation, is_lazy=is_lazy)
        except MissingIds:
            self._ordinals.forget()
            with snapshot_locked(self._conn) as cur:
                cur.execute(SQL["columns_missing_ids"])
            return self._step(generation, is_lazy=is_lazy)

    def _has_work(self, cur: Cursor, progress: ColumnProgress, *, is_lazy: bool) -> bool:
        return (
            progress.is_backfilling
            or self._is_due(cur, progress, is_lazy=is_lazy)
            or bool(find_merge(cur, progress.generation))
        )

    def _is_due(self, cur: Cursor, progress: ColumnProgress, *, is_lazy: bool) -> bool:
        """Return whether new events have to be written."""
        until = self._until.get(progress.generation)
        if until and progress.has_written(until):
            return False
        least = LAZY_EVENTS if is_lazy and not progress.is_overdue else 1
        return count_new(cur, progress, least) >= least

    def _step(self, generation: int, *, is_lazy: bool) -> int:
        with columns_locked(self._conn) as cur:
            cur.execute(SQL["columns_begin"], {"generation": generation})
            progress = read_progress(cur, generation)
            if progress is None:  # another generation has replaced it
                return 0
            writer = ChunkWriter(cur, generation, self._max_paths)
            if self._is_due(cur, progress, is_lazy=is_lazy):
                self._write_new(cur, progress, writer)
                cur.execute(SQL["columns_log_batch"], _params(progress))
            elif progress.is_backfilling:
                self._write_backfill(cur, progress, writer)
            elif rows := find_merge(cur, generation):
                merge(cur, generation, rows, writer)
            else:
                return 0
            progress.left_out |= writer.left_out
            cur.execute(SQL["columns_store_progress"], _params(progress))
        self.written_events += writer.new_events
        return max(1, writer.chunks)

    def _write_new(self, cur: Cursor, progress: ColumnProgress, writer: ChunkWriter) -> None:
        """Write all new events; if they are very many, let a backfill do so."""
        count = count_new(cur, progress, self._max_new_events + 1)
        if count > self._max_new_events and not progress.is_backfilling:
            progress.begin_backfill()
            return
        fresh, late = ChunkStream(writer, is_late=False), ChunkStream(writer, is_late=True)
        # To read all users takes less time than to look up one in eight.
        users = None
        if count * 8 > read_user_count(cur):
            users = self._ordinals.table(cur, progress.generation, progress.folded_snapshot)
        for batch in EventPages(cur, self._limits, users).new_events(progress.new_ranges):
            writer.new_events += len(batch.time)
            is_late = batch.time < progress.now - _DAY_US
            fresh.add(_part(batch, ~is_late))
            late.add(_part(batch, is_late))
        fresh.finish()
        late.finish()
        progress.written_snapshot = progress.folded_snapshot

    def _write_backfill(self, cur: Cursor, progress: ColumnProgress, writer: ChunkWriter) -> None:
        """Write one chunk."""
        stream = ChunkStream(writer, is_late=False)
        users = self._ordinals.table(cur, progress.generation, progress.backfill_to)
        pages = EventPages(cur, self._limits, users)
        for batch, position in pages.backfill(progress.backfill()):
            writer.new_events += len(batch.time)
            stream.add(batch)
            progress.backfill_cursor = position
            if stream.is_full:
                break
        else:
            progress.end_backfill()
            self._ordinals.forget()
        stream.finish()


def read_progress(cur: Cursor, generation: int) -> ColumnProgress | None:
    """Return the progress of a generation; None if it no longer exists."""
    cur.execute(SQL["columns_progress"], {"generation": generation, "pause": LAZY_S})
    row = cur.fetchone()
    if row is None:
        return None
    *snapshots, backfilled_from, backfilled_id, left_out, is_overdue, now = row
    folded, written, since, to = map(Snapshot, snapshots)
    cursor = BackfillCursor(backfilled_from, backfilled_id)
    return ColumnProgress(generation, folded, written, since, to, cursor, left_out, is_overdue, now)


def read_folded(conn: connection) -> dict[int, Snapshot]:
    """Return up to which snapshot each generation is folded."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["columns_generations"])
        generations = [generation for (generation,) in cur]
        found = [read_progress(cur, generation) for generation in generations]
    return {each.generation: each.folded_snapshot for each in found if each}


def is_nearly_done(cur: Cursor, progress: ColumnProgress) -> bool:
    """Return whether so few folded events are not written that these may wait for more."""
    return not progress.is_backfilling and count_new(cur, progress, LAZY_EVENTS) < LAZY_EVENTS


def _params(progress: ColumnProgress) -> dict[str, Any]:
    return {
        "generation": progress.generation,
        "snapshot": progress.written_snapshot.text,
        "left_out": progress.left_out,
        **progress.backfill(),
    }


def count_new(cur: Cursor, progress: ColumnProgress, limit: int) -> int:
    """Return the number of events that are folded and not written, up to a limit."""
    cur.execute(FOLD["fold_count_tail"], {**progress.new_ranges, "limit": limit})
    (count,) = cur.fetchone() or (0,)
    return int(count)


def _part(batch: EventBatch, mask: NDArray[np.bool_]) -> EventBatch:
    """Return some events of a batch."""
    if mask.all():
        return batch
    positions = np.flatnonzero(mask)
    return EventBatch(
        batch.time[positions],
        batch.user[positions],
        batch.name[positions],
        batch.xid[positions],
        batch.event_id[positions],
        [batch.properties[position] for position in positions.tolist()],
    )
