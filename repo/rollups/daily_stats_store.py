"""The store of daily statistics: folds queue the days that change, and `maintain` counts them."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from repo.engine.watermark import Watermark, read_watermark
from repo.rollups import daily_stats
from repo.rollups.aggregate import Batch
from repo.rollups.daily_stats_refresh import DailyStatsRefresh, FailedDay
from repo.rollups.fold import count_tail
from repo.rollups.fold_state import Progress
from repo.rollups.store import Horizon, Store
from repo.rollups.subtract_user import ErasedUser
from repo.statements import statements
from utils.time.slots import HOUR, slot_of

FOLD = statements("fold")

# No daily statistics are computed while the tail is so long: each batch would read all of it.
LONG_TAIL = 100_000


class DailyStatsStore(Store):
    """Daily statistics of the current generation; it remembers what was compared with the clock."""

    name = "daily_stats"
    unit = "days"
    tables = ("day_events", "day_users", "daily_stats_queue")

    def __init__(self, zones: Sequence[ZoneInfo]) -> None:
        super().__init__(zones)
        self._refresh = DailyStatsRefresh()
        self._last_slot: int | None = None
        """The slot in which days were last compared with the clock."""

    @property
    def failed_days(self) -> Sequence[FailedDay]:
        """Days whose statistics could not be computed, and which are retried."""
        return self._refresh.failed

    def apply(self, cur: cursor, progress: Progress, batch: Batch) -> None:
        """Queue the days that the events change."""
        if progress.is_current:
            daily_stats.enqueue(cur, self._zones, batch.slots, progress.until)

    def seal(self, cur: cursor, progress: Progress) -> int:
        """Queue the days that have ended or whose limits have moved."""
        if progress.is_current and progress.first_slot is not None:
            self._enqueue_by_time(cur, progress, progress.first_slot)
            self._last_slot = slot_of(progress.until)
        return 0

    def _enqueue_by_time(self, cur: cursor, progress: Progress, first_slot: int) -> None:
        slot, last = slot_of(progress.until), self._last_slot
        if last != slot or progress.first_slot_before is not None:
            daily_stats.prune(cur, self._zones, first_slot, progress.until)
            daily_stats.enqueue_behind(cur, self._zones, first_slot, progress.until)
        # Rules of zones change with an update of tzdata, so once an hour is enough.
        if last is None or last // HOUR != slot // HOUR:
            daily_stats.enqueue_moved(cur, self._zones, progress.until)

    def erase(self, cur: Cursor, user: ErasedUser) -> int:
        """Compute the days that include the user anew, or queue them if the tail is long."""
        days = daily_stats.affected_days(cur, user.changed_slots)
        watermark = read_watermark(cur)
        if watermark is None or _has_long_tail(cur, watermark):
            daily_stats.clear(cur, days)
        else:
            daily_stats.recount(cur, watermark, days)
        return sum(map(len, days.values()))

    def drop_before(self, cur: Cursor, horizon: Horizon) -> None:
        """Do nothing: the statistics count dropped events as long as the rollups do."""

    def rebuild(self, cur: cursor, progress: Progress) -> None:
        """Queue all days of the generation that has become the current one."""
        daily_stats.prune(cur, self._zones, progress.first_slot, progress.until)
        if progress.first_slot is not None:
            daily_stats.enqueue_all(cur, self._zones, progress.first_slot, progress.until)

    def maintain(self, conn: connection, *, is_lazy: bool) -> int:
        """Compute some queued days; return how many were tried, 0 while the tail is long."""
        with conn.cursor() as cur:
            if count_tail(cur, LONG_TAIL) >= LONG_TAIL:
                return 0
        return self._refresh.count(conn)


def _has_long_tail(cur: cursor, watermark: Watermark) -> bool:
    cur.execute(FOLD["fold_count_tail"], {**watermark.tail, "limit": LONG_TAIL})
    return cur.fetchone() == (LONG_TAIL,)
