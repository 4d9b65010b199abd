"""Calendar units in a time zone: where hours, days, weeks, months, quarters and years begin.

Ranges are half-open, and instants are aware datetimes in UTC. A local day has 23, 24 or 25 hours,
or none at all: Apia skipped 2011-12-30, so that day begins where the next one does.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from utils.time.zones import offset

Interval = Literal["hour", "day", "week", "month", "quarter", "year"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

WEEKDAYS: tuple[Weekday, ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)

MAX_BUCKETS = 10_000

# About the shortest length of each unit, for an upper bound of the number of buckets.
_NOMINAL: dict[Interval, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=28),
    "quarter": timedelta(days=90),
    "year": timedelta(days=365),
}

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_MONTHS: dict[Interval, int] = {"month": 1, "quarter": 3, "year": 12}


class Range(NamedTuple):
    """A half-open range of time, start <= t < end, both in UTC."""

    start: datetime
    end: datetime

    def until(self, instant: datetime) -> "Range":
        """Return the part of the range before `instant`, which may be empty."""
        return Range(self.start, max(self.start, min(self.end, instant)))


def day_start(day: date, tz: ZoneInfo) -> datetime:
    """Return the instant at which a local day begins; for a skipped day, that of the next one.

    Clocks that are set back across midnight show the day twice; it begins the second time.
    """
    midnight = datetime.combine(day, time(), tz)
    early = midnight.astimezone(UTC)
    late = midnight.replace(fold=1).astimezone(UTC)
    if early == late:
        return early
    if late < early:  # midnight was skipped: the day begins at the change of clocks
        return _transition(late, early, tz)
    before = (late - _SECOND).astimezone(tz).date()
    return early if before == day else late


def _transition(low: datetime, high: datetime, tz: ZoneInfo) -> datetime:
    """Return the first second in (low, high] with another offset than `low`; `high` without one."""
    before = offset(low, tz)
    if offset(high, tz) == before:
        return high
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        low, high = (middle, high) if offset(middle, tz) == before else (low, middle)
    return high


def local_day(instant: datetime, tz: ZoneInfo) -> date:
    """Return the local day that contains `instant`, with days that begin at `day_start`."""
    day = instant.astimezone(tz).date()
    return day if day_start(day, tz) <= instant else day - timedelta(days=1)


def first_day(day: date, interval: Interval, week_start: Weekday) -> date:
    """Return the first day of the week, month, quarter or year that contains `day`."""
    if interval == "week":
        return day - timedelta(days=(day.weekday() - WEEKDAYS.index(week_start)) % 7)
    if months := _MONTHS.get(interval):
        return date(day.year, (day.month - 1) // months * months + 1, 1)
    return day


def next_first_day(day: date, interval: Interval) -> date:
    """Return the first day of the next unit after the one that begins on `day`."""
    if months := _MONTHS.get(interval):
        return add_months(day, months)
    return day + timedelta(days=7 if interval == "week" else 1)


def add_months(day: date, months: int) -> date:
    """Return the same day of a later month, or of an earlier one for a negative number.

    Raises: ValueError if that month has no such day.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1)


def days_of(time_range: Range, tz: ZoneInfo) -> list[date]:
    """Return the local days that the range touches; for an empty range, those that were skipped."""
    day, last = (
        local_day(time_range.start, tz),
        local_day(time_range.end - timedelta.resolution, tz),
    )
    if last < day:
        day, last = last + timedelta(days=1), day - timedelta(days=1)
    return [day + timedelta(days=n) for n in range((last - day).days + 1)]


def buckets(
    time_range: Range, interval: Interval, tz: ZoneInfo, *, week_start: Weekday = "monday"
) -> list[Range]:
    """Return the range cut at each start of a unit; the first and last bucket may be partial."""
    starts = (
        _hours(time_range, tz)
        if interval == "hour"
        else _units(time_range, interval, tz, week_start)
    )
    inner = [start for start in starts if time_range.start < start < time_range.end]
    return [Range(*pair) for pair in pairwise([time_range.start, *inner, time_range.end])]


def first_days(parts: Sequence[Range], tz: ZoneInfo) -> list[date]:
    """Return the first local day of each part; of an empty one, the first that was skipped."""
    return [
        local_day(part.start, tz) if part.start < part.end else days_of(part, tz)[0]
        for part in parts
    ]


def unit_starts(
    time_range: Range, interval: Interval, tz: ZoneInfo, *, week_start: Weekday = "monday"
) -> list[datetime]:
    """Return the instants at which units begin, from the start to the end of a range, inclusive."""
    moment = timedelta.resolution
    wider = Range(time_range.start - moment, time_range.end + moment)
    return [bucket.start for bucket in buckets(wider, interval, tz, week_start=week_start)[1:]]


def whole_units(
    time_range: Range,
    interval: Interval,
    tz: ZoneInfo,
    *,
    week_start: Weekday = "monday",
    more: int = 0,
) -> list[Range]:
    """Return the days, weeks, ... that the range touches, and as many `more` that follow them.

    They are not cut by the range. An empty range touches none.
    """
    days = [first_day(local_day(time_range.start, tz), interval, week_start)]
    while day_start(days[-1], tz) < time_range.end:
        days.append(next_first_day(days[-1], interval))
    for _ in range(more if len(days) > 1 else 0):
        days.append(next_first_day(days[-1], interval))
    return [Range(*pair) for pair in pairwise(day_start(day, tz) for day in days)]


def _units(
    time_range: Range, interval: Interval, tz: ZoneInfo, week_start: Weekday
) -> Iterator[datetime]:
    day = first_day(local_day(time_range.start, tz), interval, week_start)
    while (start := day_start(day, tz)) < time_range.end:
        yield start
        day = next_first_day(day, interval)


def _hours(time_range: Range, tz: ZoneInfo) -> Iterator[datetime]:
    """Yield the instants at which the local hour or the zone's offset changes."""
    # A change of the offset begins a new hour even within one: Lord Howe's clocks move by 30 min.
    instant = time_range.start
    while instant < time_range.end:
        local = instant.astimezone(tz)
        since_hour = timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        instant = _transition(instant - since_hour % _SECOND, instant - since_hour + _HOUR, tz)
        yield instant


def too_many_buckets(time_range: Range, interval: Interval) -> bool:
    """Return whether `buckets` may return more than `MAX_BUCKETS`; the two ends may be partial."""
    return (time_range.end - time_range.start) > (MAX_BUCKETS - 2) * _NOMINAL[interval]
