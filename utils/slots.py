"""Slots are quarters of an hour, counted from 1970; spans are runs of them that can be sealed."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from utils.timebuckets import add_months, day_start, local_day

SLOT = timedelta(minutes=15)
HOUR = 4
"""An hour, in slots."""
HOURS_KEPT = 100 * 24 * HOUR
"""How far back hours are sealed, in slots; days take over before."""
LEAD = 32 * 24 * HOUR
"""Slots before the first event: the month, and in each zone the day, that it is in begin there."""
_SHORTEST_DAY = 20 * HOUR
_SHORTEST_MONTH = 28 * 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTC = ZoneInfo("UTC")
_DAY = timedelta(days=1)


class Span(NamedTuple):
    """start <= slot < end."""

    start: int
    end: int


def slot_of(moment: datetime) -> int:
    """The slot that holds the moment."""
    return (moment - _EPOCH) // SLOT


def slot_start(slot: int) -> datetime:
    return _EPOCH + slot * SLOT


def hours_in(whole: Span) -> Iterator[Span]:
    """The hours of UTC within a span, in order."""
    for start in range(-(-whole.start // HOUR) * HOUR, whole.end - HOUR + 1, HOUR):
        yield Span(start, start + HOUR)


def days_in(whole: Span, tz: ZoneInfo) -> Iterator[Span]:
    """The zone's days within a span, in order; those that begin within a slot are left out."""
    if whole.end - whole.start < _SHORTEST_DAY:
        return
    day = local_day(slot_start(whole.start), tz).replace(day=1)
    while slot_start(whole.end) > day_start(day, tz):
        yield from (s for s in _days(tz, day) if whole.start <= s.start and s.end <= whole.end)
        day = add_months(day, 1)


def months_in(whole: Span) -> Iterator[Span]:
    """The months of UTC within a span, in order."""
    if whole.end - whole.start < _SHORTEST_MONTH:
        return
    day = slot_start(whole.start).date().replace(day=1)
    while (span := _month(day)).end <= whole.end:
        if whole.start <= span.start:
            yield span
        day = add_months(day, 1)


def month_number(moment: datetime) -> int:
    """The months of UTC, counted from year 0."""
    there = moment.astimezone(UTC)
    return there.year * 12 + there.month - 1


def _month(first: date) -> Span:
    edges = (day_start(day, _UTC) for day in (first, add_months(first, 1)))
    return Span(*map(slot_of, edges))


@lru_cache(maxsize=4096)
def _days(tz: ZoneInfo, first: date) -> tuple[Span, ...]:
    """The days of a month."""
    days = [first + n * _DAY for n in range((add_months(first, 1) - first).days + 1)]
    edges = [day_start(day, tz) for day in days]
    return tuple(
        Span(slot_of(start), slot_of(end))
        for start, end in pairwise(edges)
        if start < end and _begins_a_slot(start) and _begins_a_slot(end)
    )


def _begins_a_slot(moment: datetime) -> bool:
    return not (moment - _EPOCH) % SLOT
