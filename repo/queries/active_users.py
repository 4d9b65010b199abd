"""Compute the answer to `active_users` from partial aggregates."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Self

from common.cells import Cell
from common.dates import EARLIEST
from common.questions.active_users import (
    ActiveDay,
    ActiveUsersData,
    ActiveUsersMeta,
    ActiveUsersQuery,
)
from common.questions.answer import Checkpoint
from repo.cohorts.collector import PeriodCollector
from repo.engine.cardinality import Aggregates
from repo.engine.ordinals import Ordinals
from repo.engine.plan import Aggregation
from repo.engine.scan import Scan
from repo.queries.base import Reduction
from repo.queries.cell_users import users_where
from repo.queries.series import cell_error
from utils.time.calendar import Interval, Range, day_start, days_of, first_day

_DAY = timedelta(days=1)
_ROLLING = {"dau": 1, "wau": 7, "mau": 30}
_UNITS: dict[str, Interval] = {"calendar_week": "week", "calendar_month": "month"}
_FIRST_EVER = ("new", "existing")
_LONGEST_WINDOW = 31  # days of the calendar month, the longest window that is always counted


class ActiveUsersReduction(Reduction[ActiveUsersQuery, ActiveUsersData], query=ActiveUsersQuery):
    """The active users of each day that has begun."""

    meta_type = ActiveUsersMeta

    def __init__(self, query: ActiveUsersQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        days = days_of(time_range, query.zone)
        self._begun_days = [day for day in days if day_start(day, query.zone) <= now]
        self._window_days = max(_LONGEST_WINDOW, query.window or 0)
        self._days = self._days_of_windows()
        self._has_first_ever = True

    def without_first_ever(self) -> Self | None:
        if not self._has_first_ever:
            return None
        reduction = type(self)(self.query, self.time_range, self.now)
        reduction._has_first_ever = False
        return reduction

    def aggregation(self) -> Aggregation:
        starts = [day_start(day, self.query.zone) for day in self._days]
        ends = [day_start(day + _DAY, self.query.zone) for day in self._days[-1:]]
        ranges = [Range(*edges) for edges in pairwise([*starts, *ends])]
        return self._aggregation(
            [*map(self._before, starts[:1]), *ranges],
            window_days=self._window_days,
            alternatives=f"a `start` at least {self._window_days} days after {{horizon}}",
        )

    def cell_scan(self, cell: Cell) -> Scan:
        # No day works for counts that need the events of all time.
        alternatives = "a `date` whose window begins at {horizon} or later"
        if cell.count in _FIRST_EVER:
            alternatives = "events without `where`"
        return replace(super().cell_scan(cell), alternatives=alternatives)

    def _cell_ranges(self, cell: Cell) -> list[Range]:
        day, zone = self._day_of(cell), self.query.zone
        end = day_start(day + _DAY, zone)
        if cell.count in _FIRST_EVER:
            start = day_start(day, zone)
            return [Range(min(EARLIEST, start), start), Range(start, end)]
        first = self._first_day(day, cell.count or "dau")
        return [Range(day_start(first, zone), end)]

    def cell_collector(self, cell: Cell) -> Any:
        needs_first = cell.count in _FIRST_EVER
        return PeriodCollector(first=1) if needs_first else super().cell_collector(cell)

    def cell_users(self, collector: Any, cell: Cell, checkpoint: Checkpoint) -> Ordinals:
        if not isinstance(collector, PeriodCollector):
            return super().cell_users(collector, cell, checkpoint)
        earlier, active = collector.earlier_users(), collector.presence.flags(0)
        return users_where(active & (~earlier if cell.count == "new" else earlier))

    def _day_of(self, cell: Cell) -> date:
        """Return the day of a cell. Raises: InvalidParameter."""
        days = {day.isoformat(): day for day in self._begun_days}
        text = cell.fields["date"]
        if text in days:
            return days[text]
        edges = f": from {min(days)} to {max(days)}" if days else ""
        raise cell_error(f"date must be a day of the answer that has begun{edges}")

    def _first_day(self, day: date, count: str) -> date:
        """Return the first day of the window of a count that ends with a day."""
        if count in _UNITS:
            return first_day(day, _UNITS[count], self.query.week_start)
        return day - (_ROLLING.get(count, self.query.window or 1) - 1) * _DAY

    def data(self, aggregates: Aggregates) -> ActiveUsersData:
        windows = self._windows(aggregates)
        lead = len(self._days) - len(self._begun_days)
        series = [
            self._point(day, {window: counts[index] for window, counts in windows.items()})
            for index, day in enumerate(self._begun_days, lead)
        ]
        return ActiveUsersData(series)

    def _before(self, start: datetime) -> Range:
        """Return all time before the first day, or an empty range if it is not read."""
        return Range(min(EARLIEST, start) if self._has_first_ever else start, start)

    def extra_meta(self) -> dict[str, Any]:
        return {"windows": self.query.windows}

    def _days_of_windows(self) -> list[date]:
        """Return the days of the series, after those that the windows of the first day include."""
        if not self._begun_days:
            return []
        first = self._begun_days[0] - self._window_days * _DAY
        return [first + n * _DAY for n in range((self._begun_days[-1] - first).days + 1)]

    def _windows(self, aggregates: Aggregates) -> dict[str, list[int]]:
        """Return, by window, the active users in the one that ends with each day.

        With them are the numbers of new users of each day.
        """
        days, cardinalities = aggregates.totals[1:], aggregates.cardinalities
        window = self.query.window
        return {
            "dau": [count.users for count in cardinalities.counts(days)],
            "wau": cardinalities.rolling(days, _ROLLING["wau"]),
            "mau": cardinalities.rolling(days, _ROLLING["mau"]),
            **{
                name: cardinalities.running(days, self._firsts(unit))
                for name, unit in _UNITS.items()
            },
            **({"active": cardinalities.rolling(days, window)} if window else {}),
            **({"new": _new_users(aggregates)} if self._has_first_ever else {}),
        }

    def _firsts(self, unit: Interval) -> list[bool]:
        """Return, for each day, whether it is the first of its week or month."""
        return [first_day(day, unit, self.query.week_start) == day for day in self._days]

    def _point(self, day: date, users: dict[str, int]) -> ActiveDay:
        mau, new = users["mau"], users.get("new")
        return ActiveDay(
            date=day,
            stickiness=users["dau"] / mau if mau else None,
            partial=day_start(day + _DAY, self.query.zone) > self.now,
            existing=None if new is None else users["dau"] - new,
            **users,
        )


def _new_users(aggregates: Aggregates) -> list[int]:
    """Return the users of each range but the first who are in none before it."""
    totals = aggregates.totals
    seen = aggregates.cardinalities.running(totals, [index == 0 for index in range(len(totals))])
    return [after - before for before, after in pairwise(seen)]
