"""The source that counts the events themselves: slow, but it needs no rollups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import accumulate
from typing import Any

from common.errors import EventsDropped
from common.query import Query
from config.database import Cursor
from repo.engine.cost import MAX_EVENTS, WINDOWS, Cost
from repo.engine.source import NO_COUNT, Count, CountSeries, Top
from repo.statements import statements
from utils.time.calendar import Interval, Range, first_day, next_first_day

SQL = statements("event_counts") | statements("top_events") | statements("active_users")

_ALTERNATIVES = (
    "a range from that time on, including the days of its rolling windows; and about any range "
    "once /readyz reports that there are rollups"
)


class RawSource:
    """A source on the table of events; see `Source` for its methods."""

    cache_version = None
    kind = "events"
    allowed_events = MAX_EVENTS

    def __init__(self, cur: Cursor, query: Query, horizon: datetime | None = None) -> None:
        self._cur = cur
        self._query = query
        self.horizon = horizon

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        horizon = self.horizon
        return horizon is not None and any(time_range.start < horizon for time_range in ranges)

    def tail(self) -> int:
        """Return 0: without rollups there is no tail."""
        return 0

    def cost(self, ranges: Sequence[Range], *, by_name: bool) -> Cost:
        """Return the planner's estimate of the number of events, which are not counted."""
        if not ranges:
            return Cost()
        self._execute("event_counts_estimate", Range(ranges[0].start, ranges[-1].end))
        ((plan,),) = self._cur.fetchone() or ()
        return Cost(events=int(plan["Plan"]["Plan Rows"]))

    def active_cost(self, ranges: Sequence[Range]) -> Cost:
        """Return the estimated cost of all windows."""
        # A user enters and leaves each window, which takes as long as counting an event.
        return Cost(events=2 * WINDOWS * self.cost(ranges, by_name=False).events)

    def _check(self, ranges: Sequence[Range]) -> None:
        self._check_horizon(ranges)
        self.cost(ranges, by_name=False).check(MAX_EVENTS)

    def _check_horizon(self, ranges: Sequence[Range]) -> None:
        if self.horizon and self.needs_dropped(ranges):
            raise EventsDropped(self.horizon, _ALTERNATIVES)

    def counts(self, ranges: Sequence[Range]) -> CountSeries:
        if not ranges:
            return CountSeries(NO_COUNT, [])
        self._check(ranges)
        full_range = Range(ranges[0].start, ranges[-1].end)
        self._execute("event_counts", full_range)
        total = Count(*self._cur.fetchone() or NO_COUNT)
        return CountSeries(total, self._series(ranges, full_range) if len(ranges) > 1 else [total])

    def _series(self, ranges: Sequence[Range], full_range: Range) -> list[Count]:
        self._execute("event_counts_series", full_range, starts=[range_.start for range_ in ranges])
        counts = {index: Count(events, users) for index, events, users in self._cur}
        return [counts.get(index, NO_COUNT) for index in range(len(ranges))]

    def top(self, time_range: Range, limit: int) -> Top:
        self._check([time_range])
        self._execute("top_events", time_range)
        *names, (_, *total) = self._cur.fetchall()
        rows = [(name, Count(*count)) for name, *count in names]
        top, others = rows[:limit], rows[limit:]
        events = sum(count.events for _, count in others)
        users = self._other_users(time_range, [name for name, _ in top]) if others else 0
        return Top(Count(*total), top, len(others), Count(events, users))

    def _other_users(self, time_range: Range, top: list[str]) -> int:
        self._execute("top_events_other", time_range, top_names=top)
        (users,) = self._cur.fetchone() or (0,)
        return int(users)

    def active(self, days: Sequence[date], ranges: Sequence[Range]) -> Mapping[str, list[int]]:
        self._check_horizon(ranges)
        self.active_cost(ranges).check(MAX_EVENTS)
        self._execute(
            "active_users",
            Range(ranges[0].start, ranges[-1].end),
            starts=[day.start for day in ranges],
            window=self._query.window,
            week_ends=_last_indexes(self._query, days, "week"),
            month_ends=_last_indexes(self._query, days, "month"),
        )
        # The statement returns the daily change of each window's number of users: its cost depends
        # on the number of events, not on the length of windows.
        steps: dict[str, list[int]] = defaultdict(lambda: [0] * len(days))
        for window, day, step in self._cur:
            if day < len(days):  # users leave a window after the end of the series
                steps[window][day] = step
        active = {window: list(accumulate(stepped)) for window, stepped in steps.items()}
        return defaultdict(lambda: [0] * len(days), active)

    def _execute(self, name: str, time_range: Range, **extra: Any) -> None:
        params = {
            "start": time_range.start,
            "end": time_range.end,
            "names": self._query.event_names,
            **extra,
        }
        self._cur.execute(SQL[name], params)


def _last_indexes(query: Query, days: Sequence[date], unit: Interval) -> list[int]:
    """Return, for each day, the index of the first day after its week or month."""
    firsts = (first_day(day, unit, query.week_start) for day in days)
    return [(next_first_day(first, unit) - days[0]).days for first in firsts]
