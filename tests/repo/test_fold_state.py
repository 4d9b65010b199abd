"""The progress of a fold, stored and read back."""

from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection

from repo.engine.tail import NO_BACKFILL, BackfillCursor
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.fold_state import GenerationReplaced, Progress, read_progress, write_progress

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def progress(conn: connection) -> Progress:
    """Of a generation in which nothing is folded."""
    with snapshot_locked(conn) as cur:
        return read_progress(cur, begin(cur, []))


def test_a_new_generation_is_behind(progress: Progress) -> None:
    assert (progress.is_current, progress.is_reported) == (False, True)
    assert (progress.version, progress.sealed_version, progress.first_slot) == (0, 0, None)
    assert (progress.is_backfilling, progress.is_behind, progress.is_caught_up) == (
        (False, False, False)
    )


def test_stored_progress_is_read_back(conn: connection, progress: Progress) -> None:
    progress.version, progress.sealed_version, progress.first_slot = 7, 6, 5
    progress.backfill_cursor = BackfillCursor(MARCH.isoformat(), UNKNOWN_ID)
    with snapshot_locked(conn) as cur:
        write_progress(cur, progress)
        stored = read_progress(cur, progress.generation)
    assert (stored.version, stored.sealed_version, stored.first_slot) == (7, 6, 5)
    assert stored.backfill_cursor.event_id == UNKNOWN_ID
    assert datetime.fromisoformat(stored.backfill_cursor.until) == MARCH
    assert (stored.is_backfilling, stored.is_behind) == (True, True)


def test_what_is_visible_is_folded_when_stored(conn: connection, progress: Progress) -> None:
    progress.folded_snapshot = progress.visible_snapshot
    assert progress.is_caught_up
    assert progress.backfill_cursor == NO_BACKFILL
    with snapshot_locked(conn) as cur:
        write_progress(cur, progress)
        assert read_progress(cur, progress.generation).folded_snapshot == progress.visible_snapshot


def test_the_first_slot_moves_back_only(progress: Progress) -> None:
    progress.include_slot(5)
    assert (progress.first_slot, progress.first_slot_before) == (5, None)
    progress.include_slot(7)
    assert (progress.first_slot, progress.first_slot_before) == (5, None)
    progress.include_slot(3)
    assert (progress.first_slot, progress.first_slot_before) == (3, 5)


def test_a_replaced_generation_cannot_be_read(conn: connection) -> None:
    with snapshot_locked(conn) as cur, pytest.raises(GenerationReplaced):
        read_progress(cur, 99)
