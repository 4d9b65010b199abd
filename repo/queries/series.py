"""The buckets of series: hours, days, ... of a range."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from common.errors import Fault, InvalidParameter
from common.query import Query
from common.questions.answer import absent_field
from utils.time.calendar import Range, buckets, first_days, unit_starts

_MAX_CELLS = 100_000
"""Buckets of all rows."""


class CalendarBucket(NamedTuple):
    """A part of a range that is in one hour, day, ... of the zone of a query."""

    part: Range
    day: date
    """The first day, absent for hours. A day that the zone skipped has an empty part."""
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
    all_parts = buckets(time_range, interval, zone, week_start=week_start)
    whole = set(unit_starts(time_range, interval, zone, week_start=week_start))
    parts = [part for part in all_parts if part.start <= now]
    days = [absent_field()] * len(parts) if interval == "hour" else first_days(parts, zone)
    return [
        CalendarBucket(
            part,
            day,
            part.start.astimezone(zone),
            part.end.astimezone(zone),
            partial=part.end > now,
            cut=not whole.issuperset(part),
        )
        for part, day in zip(parts, days, strict=True)
    ]


def check_cells(series: Sequence[CalendarBucket], rows: int) -> None:
    """Compare the buckets of all rows with the limit. Raises: InvalidParameter."""
    if len(series) * rows > _MAX_CELLS:
        message = f"gives more than {_MAX_CELLS:,} buckets in all rows; use a lower limit"
        raise InvalidParameter(faults=[Fault("limit", message)])
