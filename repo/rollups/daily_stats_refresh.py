"""Compute the queued daily statistics in batches; a day that fails does not stop the others."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection

from repo.engine.watermark import read_watermark
from repo.rollups.daily_stats import DayBatch, claim_due, count, max_days
from repo.rollups.fold import snapshot_locked

log = logging.getLogger("analytics.rollup")

_MAX_DAYS = 366
_RETRY_S, _LONGEST_RETRY_S = 60.0, 3600.0
_TRACEBACKS = 3  # if a whole zone fails, each of its days logs a message

# Errors that every other day would have as well.
_SYSTEMIC_ERRORS = (
    errors.UndefinedTable,
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
)


class FailedDay(NamedTuple):
    """A day whose statistics could not be computed; it stays in the queue."""

    zone: str
    day: date

    def __str__(self) -> str:
        return f"{self.zone} {self.day}"


@dataclass(slots=True)
class _Retry:
    next_try: float
    """Seconds on the monotonic clock."""
    wait_s: float


@dataclass(slots=True)
class DailyStatsRefresh:
    """Counts queued days, and remembers failed ones in the memory of this process."""

    _max_days: int = _MAX_DAYS
    _retries: dict[FailedDay, _Retry] = field(default_factory=dict)

    @property
    def failed(self) -> Sequence[FailedDay]:
        """Days that could not be counted, and are retried."""
        return sorted(self._retries)

    def count(self, conn: connection) -> int:
        """Count the next days in one transaction; return how many were tried, 0 if none are due."""
        # After a failure the next batch has half as many days, until it is the day that fails.
        batch = None
        try:
            with snapshot_locked(conn) as cur:
                if (watermark := read_watermark(cur)) is None:
                    return 0
                batch = claim_due(
                    cur, min(self._max_days, max_days(cur, watermark)), self._postponed()
                )
                if batch is None:
                    self._drop_settled_retries()
                    return 0
                count(cur, watermark, batch)
        except Exception as exc:
            if batch is None or conn.closed or isinstance(exc, _SYSTEMIC_ERRORS):
                raise
            self._fail(batch, exc)
        else:
            self._succeed(batch)
        return len(batch.days)

    def _postponed(self) -> list[FailedDay]:
        now = time.monotonic()
        return [day for day, retry in self._retries.items() if retry.next_try > now]

    def _drop_settled_retries(self) -> None:
        """Forget failed days that are due but not queued: another process has counted them."""
        self._retries = {day: self._retries[day] for day in self._postponed()}

    def _succeed(self, batch: DayBatch) -> None:
        # Grows again step by step, since other days near the failed one may fail as well.
        self._max_days = min(2 * self._max_days, _MAX_DAYS)
        for day in batch.days:
            self._retries.pop(FailedDay(batch.zone, day), None)

    def _fail(self, batch: DayBatch, exc: Exception) -> None:
        if len(batch.days) > 1:
            self._max_days = len(batch.days) // 2
        else:
            self._postpone(FailedDay(batch.zone, *batch.days), exc)

    def _postpone(self, day: FailedDay, exc: Exception) -> None:
        previous = self._retries.get(day)
        wait_s = min(2 * previous.wait_s, _LONGEST_RETRY_S) if previous else _RETRY_S
        self._retries[day] = _Retry(time.monotonic() + wait_s, wait_s)
        log.error(
            "the daily statistics of %s could not be counted: the next attempt is in %d s",
            day,
            wait_s,
            extra={"zone": day.zone, "day": str(day.day), "failure": str(exc)},
            exc_info=exc if len(self._retries) <= _TRACEBACKS else None,
        )
