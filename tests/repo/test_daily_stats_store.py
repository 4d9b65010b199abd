"""The store of daily statistics: which days a fold queues, and which are counted."""

from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from config.database import Cursor
from repo.rollups import daily_stats_store
from repo.rollups.aggregate import Batch
from repo.rollups.daily_stats_store import DailyStatsStore
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.fold_state import Progress, read_progress
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.unit.test_aggregate import rows
from utils.time.slots import slot_of
from utils.time.zones import zone

ZONES = [zone("UTC")]
NOON = datetime(2000, 1, 3, 12, tzinfo=UTC)
DAY = timedelta(days=1)
THIRD_S = 2 * 86_400  # seconds from 2000-01-01 to the third


def queued(cur: Cursor) -> list[date]:
    """The queued days, which are taken out."""
    cur.execute("with taken as (delete from daily_stats_queue returning day) select day from taken")
    return sorted(day for (day,) in cur)


def progress_at(cur: Cursor, instant: datetime, *, is_current: bool) -> Progress:
    progress = read_progress(cur, begin(cur, []))
    progress.is_current, progress.until = is_current, instant
    progress.first_slot = slot_of(NOON - DAY)
    return progress


@pytest.mark.parametrize("is_current", [True, False])
def test_days_of_events_are_queued_for_the_current_generation(
    conn: connection, is_current: bool
) -> None:
    batch = Batch([rows((THIRD_S, 1, 5))], NOON)
    with snapshot_locked(conn) as cur:
        DailyStatsStore(ZONES).apply(cur, progress_at(cur, NOON, is_current=is_current), batch)
        assert queued(cur) == ([NOON.date()] if is_current else [])


def test_days_are_queued_as_time_passes(conn: connection) -> None:
    store = DailyStatsStore(ZONES)
    with snapshot_locked(conn) as cur:
        progress = progress_at(cur, NOON, is_current=True)
        assert store.seal(cur, progress) == 0
        assert queued(cur) == [(NOON - DAY).date(), NOON.date()]
        store.seal(cur, progress)
        assert queued(cur) == []  # in the same slot
        progress.until += timedelta(minutes=15)
        store.seal(cur, progress)
        assert queued(cur) == [(NOON - DAY).date(), NOON.date()]
        progress.first_slot_before, progress.first_slot = (
            progress.first_slot,
            slot_of(NOON - 2 * DAY),
        )
        store.seal(cur, progress)
        assert queued(cur)[0] == (NOON - 2 * DAY).date()


def test_a_rebuild_queues_all_days(conn: connection) -> None:
    with snapshot_locked(conn) as cur:
        DailyStatsStore(ZONES).rebuild(cur, progress_at(cur, NOON, is_current=False))
        assert queued(cur) == [(NOON - DAY).date(), NOON.date()]


def test_no_day_is_counted_while_the_tail_is_long(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily_stats_store, "LONG_TAIL", 2)
    store, now = DailyStatsStore(ZONES), datetime.now(UTC)
    insert(conn, ("u", "view", now))
    while RollupWriter(conn, ZONES).step().has_more:
        pass
    insert(conn, *[("u", "view", now)] * 2)
    assert store.maintain(conn, is_lazy=True) == 0
    RollupWriter(conn, ZONES).step()
    assert store.maintain(conn, is_lazy=True) > 0
    assert store.maintain(conn, is_lazy=True) == 0
    assert store.failed_days == []
