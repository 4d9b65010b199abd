"""The buckets of series: hours, days, ... of a range."""

from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from common.query import Query
from common.questions.answer import absent_field
from utils.time.calendar import Range, buckets, days_of, local_day, unit_starts


class CalendarBucket(NamedTuple):
    """A part of a range that is in one hour, day, ... of the zone of a query."""

    part: Range
    day: date
    """The first day, absent for hours."""
    start: datetime
    end: datetime
    partial: bool
    """Whether it had not ended at the time of the snapshot."""
    cut: bool
    """Whether it is only a part of its hour, day, ..."""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that each bucket of an answer has."""
        fields = self._asdict()
        del fields["part"]
        return fields


def begun_buckets(query: Query, time_range: Range, now: datetime) -> list[CalendarBucket]:
    """Return all buckets of a range that have begun, also those without events."""
    assert query.interval, "only a series has buckets"
    interval, zone, week_start = query.interval, query.zone, query.week_start
    parts = buckets(time_range, interval, zone, week_start=week_start)
    whole = set(unit_starts(time_range, interval, zone, week_start=week_start))
    return [
        CalendarBucket(
            part,
            absent_field() if interval == "hour" else _day(part, zone),
            part.start.astimezone(zone),
            part.end.astimezone(zone),
            partial=part.end > now,
            cut=not whole.issuperset(part),
        )
        for part in parts
        if part.start <= now
    ]


def _day(part: Range, zone: ZoneInfo) -> date:
    # A day that the zone skipped is an empty bucket, which begins where the next day does.
    return local_day(part.start, zone) if part.start < part.end else days_of(part, zone)[0]
