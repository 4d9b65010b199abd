"""The daily statistics that are due are counted piece by piece; a day that fails stops no other."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection

from repo.rollups.fold import snapshot_locked
from repo.rollups.numbers import Piece, count, most_days, take_due
from repo.rollups.state import read_state

log = logging.getLogger("analytics.rollup")

_MOST = 366
_RETRY_S, _LONGEST_RETRY_S = 60.0, 3600.0
_TRACEBACKS = 3
"""A zone that fails as a whole has as many days as its history."""
_PASSING = (errors.UndefinedTable, errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)
"""Errors that no other day would escape."""


class FailedDay(NamedTuple):
    """It stays in the queue."""

    zone: str
    day: date

    def __str__(self) -> str:
        return f"{self.zone} {self.day}"


@dataclass(slots=True)
class _Retry:
    at: float
    """A monotonic time."""
    wait_s: float


@dataclass(slots=True)
class DayCounter:
    """Of one process: another one tries all days at once."""

    _most: int = _MOST
    _retries: dict[FailedDay, _Retry] = field(default_factory=dict)

    @property
    def failed(self) -> Sequence[FailedDay]:
        """Days that could not be counted, and are tried again."""
        return sorted(self._retries)

    def count(self, conn: connection) -> int:
        """Count the next days in a transaction of its own; return how many were tried.

        Of a piece that fails half is tried next, until the day is found that is to blame.
        """
        piece = None
        try:
            with snapshot_locked(conn) as cur:
                if (state := read_state(cur)) is None:
                    return 0
                piece = take_due(cur, min(self._most, most_days(cur, state)), self._postponed())
                if piece is None:
                    self._forget_settled()
                    return 0
                count(cur, state, piece)
        except Exception as exc:
            if piece is None or conn.closed or isinstance(exc, _PASSING):
                raise
            self._fail(piece, exc)
        else:
            self._succeed(piece)
        return len(piece.days)

    def _postponed(self) -> list[FailedDay]:
        now = time.monotonic()
        return [day for day, retry in self._retries.items() if retry.at > now]

    def _forget_settled(self) -> None:
        """Days whose next try is due, and that are not in the queue: somebody else saw to them."""
        self._retries = {day: self._retries[day] for day in self._postponed()}

    def _succeed(self, piece: Piece) -> None:
        self._most = min(2 * self._most, _MOST)
        for day in piece.days:
            self._retries.pop(FailedDay(piece.zone, day), None)

    def _fail(self, piece: Piece, exc: Exception) -> None:
        if len(piece.days) > 1:
            self._most = len(piece.days) // 2
        else:
            self._postpone(FailedDay(piece.zone, *piece.days), exc)

    def _postpone(self, day: FailedDay, exc: Exception) -> None:
        before = self._retries.get(day)
        wait_s = min(2 * before.wait_s, _LONGEST_RETRY_S) if before else _RETRY_S
        self._retries[day] = _Retry(time.monotonic() + wait_s, wait_s)
        log.error(
            "the daily statistics of %s could not be counted: the next try is in %d s",
            day,
            wait_s,
            extra={"zone": day.zone, "day": str(day.day), "failure": str(exc)},
            exc_info=exc if len(self._retries) <= _TRACEBACKS else None,
        )
