"""Relative ranges of time: the last 30 days, an age such as 13 months, the previous range."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from utils.time.calendar import (
    Interval,
    Range,
    Weekday,
    add_months,
    day_start,
    first_day,
    local_day,
    next_first_day,
)

_LAST = re.compile(r"([1-9][0-9]{0,3})(h|d|w|mo|q|y)")
_AGE = re.compile(r"([1-9][0-9]{0,3})([a-z]+)")
_SHORT: dict[str, Interval] = {
    "d": "day",
    "w": "week",
    "mo": "month",
    "q": "quarter",
    "y": "year",
}
_UNITS: dict[str, Interval] = {"h": "hour", **_SHORT}
_AGES = {word: unit for short, unit in _SHORT.items() for word in (short, unit, f"{unit}s")}
_COARSEST_FIRST: tuple[Interval, ...] = ("year", "quarter", "month", "week", "day")
_MONTHS: dict[Interval, int] = {"year": 12, "quarter": 3, "month": 1}


class RelativeRange(NamedTuple):
    """A number of units up to now, including the current unit."""

    units: int
    unit: Interval


def parse_last(text: str) -> RelativeRange:
    """Return the range that a text such as `30d` means. Raises: ValueError."""
    if not (match := _LAST.fullmatch(text)):
        raise ValueError(
            "must be 1 to 9999 followed by h, d, w, mo, q or y, such as 24h, 30d, 12w, 6mo, 2q, 1y"
        )
    return RelativeRange(int(match[1]), _UNITS[match[2]])


def parse_age(text: str) -> RelativeRange:
    """Return the age that a text such as `90d` or `13months` means. Raises: ValueError."""
    match = _AGE.fullmatch(text)
    if not match or match[2] not in _AGES:
        raise ValueError(
            "must be a number of days, weeks, months, quarters or years, such as 90d, 13months"
        )
    return RelativeRange(int(match[1]), _AGES[match[2]])


def days_ago(age: RelativeRange, day: date) -> date:
    """Return the day that is `age` before `day`; the last of its month if it has no such day.

    Raises: ValueError or OverflowError for a day before year 1.
    """
    try:
        return _shift(day, age.unit, -age.units)
    except ValueError:
        next_month = add_months(day.replace(day=1), 1 - _MONTHS[age.unit] * age.units)
        return next_month - timedelta(days=1)


def last_range(last: RelativeRange, now: datetime, tz: ZoneInfo, week_start: Weekday) -> Range:
    """Return whole local days, weeks, ... up to the current one; hours count back from now.

    Raises: ValueError or OverflowError for a range that begins before year 1.
    """
    if last.unit == "hour":
        return Range(now - timedelta(hours=last.units), now)
    day = first_day(local_day(now, tz), last.unit, week_start)
    start = _shift(day, last.unit, 1 - last.units)
    return Range(day_start(start, tz), day_start(next_first_day(day, last.unit), tz))


def _shift(day: date, unit: Interval, count: int) -> date:
    if months := _MONTHS.get(unit):
        return add_months(day, months * count)
    return day + timedelta(days=(7 if unit == "week" else 1) * count)


def previous_range(time_range: Range, now: datetime, tz: ZoneInfo, week_start: Weekday) -> Range:
    """Return the range before this one, cut to the part that has elapsed of this one.

    A range of whole local years, quarters, months, weeks or days is shifted by as many of the
    coarsest unit as it has; any other range by its length.
    """
    elapsed = time_range.until(now)
    for unit in _COARSEST_FIRST:
        if count := _count_units(time_range, unit, tz, week_start):
            return Range(
                *(_shift_instant(edge, unit, -count, tz, time_range.start) for edge in elapsed)
            )
    length = time_range.end - time_range.start
    return Range(elapsed.start - length, elapsed.end - length)


def _count_units(time_range: Range, unit: Interval, tz: ZoneInfo, week_start: Weekday) -> int:
    """Return the number of units in the range; 0 if it does not begin and end with a unit."""
    start, end = (local_day(edge, tz) for edge in time_range)
    if any(
        day_start(first_day(day, unit, week_start), tz) != edge
        for day, edge in zip((start, end), time_range, strict=True)
    ):
        return 0
    if months := _MONTHS.get(unit):
        return ((end.year - start.year) * 12 + end.month - start.month) // months
    return (end - start).days // (7 if unit == "week" else 1)


def _shift_instant(
    instant: datetime, unit: Interval, count: int, tz: ZoneInfo, latest: datetime
) -> datetime:
    """Return the instant of the same local time `count` units away, at most `latest`."""
    day = local_day(instant, tz)
    try:
        shifted = _shift(day, unit, count)
    except ValueError:  # that month has no such day
        next_month = add_months(day.replace(day=1), _MONTHS[unit] * count + 1)
        return min(latest, day_start(next_month, tz))
    if instant == day_start(day, tz):
        return min(latest, day_start(shifted, tz))
    clock = datetime.combine(shifted, instant.astimezone(tz).time(), tz)
    return min(latest, clock.astimezone(UTC))
