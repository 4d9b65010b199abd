"""Slots (15 minutes UTC, counted from 1970) and spans, the runs of slots that can be sealed."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from utils.time.calendar import add_months, day_start, local_day

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
_SHORTEST_MONTH = 28 * 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTC = ZoneInfo("UTC")
_DAY = timedelta(days=1)


class Span(NamedTuple):
    """A run of slots, start <= slot < end."""

    start: int
    end: int


def slot_of(instant: datetime) -> int:
    """Return the number of the slot that contains `instant`."""
    return (instant - _EPOCH) // SLOT


def slot_start(slot: int) -> datetime:
    return _EPOCH + slot * SLOT


def hours_in(outer: Span) -> Iterator[Span]:
    """Yield the UTC hours within a span, in order."""
    for start in range(-(-outer.start // HOUR) * HOUR, outer.end - HOUR + 1, HOUR):
        yield Span(start, start + HOUR)


def days_in(outer: Span, tz: ZoneInfo) -> Iterator[Span]:
    """Yield the local days within a span, in order, that begin and end at the limits of slots."""
    if outer.end - outer.start < _SHORTEST_DAY:
        return
    day = local_day(slot_start(outer.start), tz).replace(day=1)
    while slot_start(outer.end) > day_start(day, tz):
        yield from (
            span for span in _days(tz, day) if outer.start <= span.start and span.end <= outer.end
        )
        day = add_months(day, 1)


def months_in(outer: Span) -> Iterator[Span]:
    """Yield the UTC months within a span, in order."""
    if outer.end - outer.start < _SHORTEST_MONTH:
        return
    day = slot_start(outer.start).date().replace(day=1)
    while (span := _month(day)).end <= outer.end:
        if outer.start <= span.start:
            yield span
        day = add_months(day, 1)


def month_number(instant: datetime) -> int:
    """Return the number of the UTC month, counted from year 0."""
    utc = instant.astimezone(UTC)
    return utc.year * 12 + utc.month - 1


def _month(first: date) -> Span:
    edges = (day_start(day, _UTC) for day in (first, add_months(first, 1)))
    return Span(*map(slot_of, edges))


@lru_cache(maxsize=4096)
def _days(tz: ZoneInfo, first: date) -> tuple[Span, ...]:
    """Return the local days of a month that begin and end with a slot."""
    days = [first + n * _DAY for n in range((add_months(first, 1) - first).days + 1)]
    edges = [day_start(day, tz) for day in days]
    return tuple(
        Span(slot_of(start), slot_of(end))
        for start, end in pairwise(edges)
        if start < end and _is_slot_start(start) and _is_slot_start(end)
    )


def _is_slot_start(instant: datetime) -> bool:
    return not (instant - _EPOCH) % SLOT
