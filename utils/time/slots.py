"""Slots (15 minutes UTC, counted from 1970) and spans, the runs of slots that can be sealed."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from utils.time.calendar import add_months, day_start

SLOT = timedelta(minutes=15)
# An event is late if it is stored more than this after it occurred.
SETTLED_AFTER = timedelta(minutes=15)
# Lengths in slots.
HOUR = 4
SEALED_HOURS = 100 * 24 * HOUR
"""How far back hours are sealed; before that, days are the finest spans."""
LEAD = 32 * 24 * HOUR
"""Longer than a month: the month and, in any zone, the day of the first event begin within it."""
_SHORTEST_DAY = 20 * HOUR
_UTC_DAY = 24 * HOUR
_SHORTEST_MONTH = 28 * 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class Span(NamedTuple):
    """A run of slots, start <= slot < end."""

    start: int
    end: int


def slot_of(instant: datetime) -> int:
    """Return the number of the slot that contains `instant`."""
    return (instant - _EPOCH) // SLOT


def next_slot(instant: datetime) -> int:
    """Return the first slot that does not begin before `instant`."""
    return -((_EPOCH - instant) // SLOT)


def slot_start(slot: int) -> datetime:
    return _EPOCH + slot * SLOT


def hours_in(outer: Span, since: int = -(2**31)) -> list[Span]:
    """Return the UTC hours within a span that do not begin before the slot `since`, in order."""
    first = -(-max(outer.start, since) // HOUR) * HOUR
    return [Span(start, start + HOUR) for start in range(first, outer.end - HOUR + 1, HOUR)]


def days_in(outer: Span, tz: ZoneInfo) -> list[Span]:
    """Return the local days within a span, in order, that begin and end with a slot."""
    if outer.end - outer.start < _SHORTEST_DAY:
        return []
    # A local month begins less than a day before or after the UTC month.
    months = _months(Span(outer.start - _UTC_DAY, outer.end + _UTC_DAY))
    days = (span for month in months for span in _days(tz, *month))
    return [span for span in days if outer.start <= span.start and span.end <= outer.end]


def months_in(outer: Span) -> list[Span]:
    """Return the UTC months within a span, in order."""
    if outer.end - outer.start < _SHORTEST_MONTH:
        return []
    spans = [_month(*month) for month in _months(outer)]
    return [span for span in spans if outer.start <= span.start and span.end <= outer.end]


def month_number(instant: datetime) -> int:
    """Return the number of the UTC month, counted from year 0."""
    utc = instant.astimezone(UTC)
    return utc.year * 12 + utc.month - 1


def _months(outer: Span) -> list[tuple[int, int]]:
    """Return the year and month, 1 to 12, of the UTC months that a span touches."""
    first, last = month_number(slot_start(outer.start)), month_number(slot_start(outer.end))
    return [(number // 12, number % 12 + 1) for number in range(first, last + 1)]


def _month(year: int, month: int) -> Span:
    first = datetime(year, month, 1, tzinfo=UTC)
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Span(slot_of(first), slot_of(following))


@lru_cache(maxsize=4096)
def _days(tz: ZoneInfo, year: int, month: int) -> tuple[Span, ...]:
    """Return the local days of a month that begin and end with a slot."""
    first = date(year, month, 1)
    days = [first + n * _DAY for n in range((add_months(first, 1) - first).days + 1)]
    edges = [day_start(day, tz) for day in days]
    return tuple(
        Span(slot_of(start), slot_of(end))
        for start, end in pairwise(edges)
        if start < end and _is_slot_start(start) and _is_slot_start(end)
    )


def _is_slot_start(instant: datetime) -> bool:
    return not (instant - _EPOCH) % SLOT
