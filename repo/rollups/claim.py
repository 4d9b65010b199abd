"""Claim the events of the next fold: the whole tail, or the next chunk of a backfill."""

from collections.abc import Mapping
from typing import Any

from psycopg2.extensions import cursor

from repo.engine.tail import NO_BACKFILL, BackfillCursor, tail_ranges
from repo.engine.watermark import LONG_TAIL_EVENTS
from repo.rollups.aggregate import Rows, decode_rows, last_event
from repo.rollups.bitmap_rows import copy_out
from repo.rollups.fold_state import SQL, Progress
from repo.statements import compose

# Events of one transaction, which bounds its memory.
MAX_EVENTS = 500_000

# If at least this share of the next events in the order of time is unfolded, a backfill reads all
# of them; otherwise it reads and sorts all unfolded ones.
_PROBE, _DENSE = 20_000, 1 / 10

# The most events that are read for each event of a chunk.
_READ_FACTOR = 4


class BatchClaimer:
    """Claims events for a rollup writer."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events

    def claim(self, cur: cursor, progress: Progress) -> list[Rows]:
        """Return the events to fold in this transaction: new ones and due future events."""
        params = {
            "generation": progress.generation,
            "until": progress.now,
            "limit": self._max_events,
        }
        cur.execute(SQL["fold_due_until"], params)
        (progress.until,) = cur.fetchone() or (progress.now,)
        return [self._next(cur, progress), _read_rows(cur, progress, "fold_claim_due", {})]

    def _next(self, cur: cursor, progress: Progress) -> Rows:
        if not progress.is_backfilling:
            tail = tail_ranges(progress.visible_snapshot, progress.folded_snapshot)
            cur.execute(SQL["fold_count_tail"], {**tail, "limit": self._max_events + 1})
            (count,) = cur.fetchone() or (0,)
            if count <= self._max_events:
                progress.folded_snapshot = progress.visible_snapshot
                return _read_rows(
                    cur, progress, "fold_claim", tail, has_many=count >= LONG_TAIL_EVENTS
                )
            # A backfill ends at the snapshot of its first chunk; what is committed later is the
            # tail.
            progress.backfill_to = progress.visible_snapshot
        return self._backfill(cur, progress)

    def _backfill(self, cur: cursor, progress: Progress) -> Rows:
        """Return the next chunk of a backfill, in the order of time, and advance its cursor."""
        # By the index on time if the unfolded events are dense there. Otherwise by the index on
        # transaction ids and a sort, which skips folded events.
        params = {
            "watermark": progress.folded_snapshot.text,
            "sweeping_to": progress.backfill_to.text,
            "swept_until": progress.backfill_cursor.until,
            "swept_id": progress.backfill_cursor.event_id,
            "limit": self._max_events,
            "scan_limit": _READ_FACTOR * self._max_events,
            **tail_ranges(progress.backfill_to, progress.folded_snapshot),
        }
        if self._is_dense(cur, params):
            rows = _read_rows(cur, progress, "fold_claim_dense", params, has_many=True)
            if len(rows):
                progress.backfill_cursor = _cursor_after(rows)
                return rows
        rows = _read_rows(cur, progress, "fold_claim_sparse", params, has_many=True)
        if len(rows) < self._max_events:
            progress.folded_snapshot, progress.backfill_cursor = progress.backfill_to, NO_BACKFILL
        else:
            progress.backfill_cursor = _cursor_after(rows)
        return rows

    def _is_dense(self, cur: cursor, params: Mapping[str, Any]) -> bool:
        cur.execute(SQL["fold_density"], {**params, "sample_size": _PROBE})
        (count,) = cur.fetchone() or (0,)
        return bool(count >= _PROBE * _DENSE)


def _cursor_after(rows: Rows) -> BackfillCursor:
    instant, event_id = last_event(rows)
    return BackfillCursor(instant.isoformat(), str(event_id))


def _read_rows(
    cur: cursor,
    progress: Progress,
    source: str,
    params: Mapping[str, Any],
    *,
    has_many: bool = False,
) -> Rows:
    """Return the rows that a statement claims; with `has_many`, users are joined all at once."""
    users = SQL["fold_users_all" if has_many else "fold_users_each"]
    statement = compose(SQL["fold_batch"], source=SQL[source], users=users)
    own = {"generation": progress.generation, "until": progress.until}
    return decode_rows(copy_out(cur, statement, {**params, **own}))
