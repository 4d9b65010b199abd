"""The progress of a fold: the row of `fold_state` that it reads first and stores last."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor

from repo.engine.tail import NO_BACKFILL, BackfillCursor, Snapshot
from repo.statements import statements

SQL = statements("fold")


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

    def include_slot(self, slot: int) -> None:
        """Move the first slot back to this one, if it is earlier."""
        if self.first_slot is None or slot < self.first_slot:
            self.first_slot_before, self.first_slot = self.first_slot, slot


class GenerationReplaced(LookupError):
    """The generation no longer exists: another one has replaced it."""


def read_progress(cur: cursor, generation: int) -> Progress:
    """Return the progress of a generation. Raises: GenerationReplaced."""
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


def write_progress(cur: cursor, progress: Progress) -> None:
    """Store the progress, after all that was folded and sealed."""
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
