"""Where hours, days, weeks, months, quarters and years begin in a time zone.

Ranges are half-open and moments are aware datetimes in UTC. Days have 23, 24 or 25 hours as the
zone has them, or none at all: Apia had no 2011-12-30, so that day begins where the next does.
"""

from collections.abc import Iterator
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
    """start <= t < end, both in UTC."""

    start: datetime
    end: datetime

    def until(self, instant: datetime) -> "Range":
        """The part of the range that is over at this moment; it may be empty."""
        return Range(self.start, max(self.start, min(self.end, instant)))


def day_start(day: date, tz: ZoneInfo) -> datetime:
    """The moment from which the zone's clocks show this day, or a later one if it was left out.

    Clocks put back across midnight show the day twice; it begins the second time.
    """
    midnight = datetime.combine(day, time(), tz)
    early = midnight.astimezone(UTC)
    late = midnight.replace(fold=1).astimezone(UTC)
    if early == late:
        return early
    if late < early:
        return _transition(late, early, tz)
    before = (late - _SECOND).astimezone(tz).date()
    return early if before == day else late


def _transition(low: datetime, high: datetime, tz: ZoneInfo) -> datetime:
    """The first moment in (low, high] with another offset than that at `low`."""
    before = offset(low, tz)
    if offset(high, tz) == before:
        return high
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        low, high = (middle, high) if offset(middle, tz) == before else (low, middle)
    return high


def local_day(instant: datetime, tz: ZoneInfo) -> date:
    """The day that `moment` is part of, as `day_start` bounds days."""
    day = instant.astimezone(tz).date()
    return day if day_start(day, tz) <= instant else day - timedelta(days=1)


def first_day(day: date, interval: Interval, week_start: Weekday) -> date:
    """The first day of the week, month, quarter or year that holds `day`."""
    if interval == "week":
        return day - timedelta(days=(day.weekday() - WEEKDAYS.index(week_start)) % 7)
    if months := _MONTHS.get(interval):
        return date(day.year, (day.month - 1) // months * months + 1, 1)
    return day


def next_first_day(day: date, interval: Interval) -> date:
    """The first day of the unit after the one that begins on `day`."""
    if months := _MONTHS.get(interval):
        return add_months(day, months)
    return day + timedelta(days=7 if interval == "week" else 1)


def add_months(day: date, months: int) -> date:
    """The same day of a later or, with negative months, an earlier month.

    Raises: ValueError where that month has no such day.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1)


def days_of(time_range: Range, tz: ZoneInfo) -> list[date]:
    """The days of the zone that the range touches; an empty one is made of days left out there."""
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
    """The range cut at the starts of its hours, days, ...; the first and last are cut to fit."""
    starts = (
        _hours(time_range, tz)
        if interval == "hour"
        else _units(time_range, interval, tz, week_start)
    )
    inner = [start for start in starts if time_range.start < start < time_range.end]
    return [Range(*pair) for pair in pairwise([time_range.start, *inner, time_range.end])]


def _units(
    time_range: Range, interval: Interval, tz: ZoneInfo, week_start: Weekday
) -> Iterator[datetime]:
    day = first_day(local_day(time_range.start, tz), interval, week_start)
    while (start := day_start(day, tz)) < time_range.end:
        yield start
        day = next_first_day(day, interval)


def _hours(time_range: Range, tz: ZoneInfo) -> Iterator[datetime]:
    """Where the clocks' hour or their offset changes: Lord Howe's half hours are hours too."""
    instant = time_range.start
    while instant < time_range.end:
        local = instant.astimezone(tz)
        since_hour = timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        instant = _transition(instant - since_hour % _SECOND, instant - since_hour + _HOUR, tz)
        yield instant


def too_many_buckets(time_range: Range, interval: Interval) -> bool:
    """Whether `buckets` could give more than MAX_BUCKETS; two are for the cut ends."""
    return (time_range.end - time_range.start) > (MAX_BUCKETS - 2) * _NOMINAL[interval]
