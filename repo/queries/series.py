"""The buckets of series: hours, days, ... of a range."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from common.cells import Cell
from common.dates import date_or_instant
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


def bucket_of(cell: Cell, name: str, series: Sequence[CalendarBucket]) -> int | None:
    """Return the index of the bucket that a field of a cell names by its `day` or `start`.

    None if the cell does not have the field. Raises: InvalidParameter.
    """
    if name not in cell.fields:
        return None
    text = cell.fields[name]
    days = {str(bucket.day): index for index, bucket in enumerate(series)}
    # West of UTC, the earliest possible events are on a day that parameters cannot name as a date.
    if text in days and isinstance(series[0].day, date):
        return days[text]
    try:
        value = date_or_instant(text)
    except ValueError as error:
        raise cell_error(f"{name} {error}") from None
    # If buckets begin at the same instant, all but the last are days that the zone skipped.
    for index in reversed(range(len(series))):
        # In Python, a time that a zone has twice equals no time of another zone.
        if value == series[index].start.astimezone(UTC):
            return index
    raise cell_error(
        f"{name} must be that of a bucket of the answer that has begun{_edges(series)}"
    )


def cell_error(message: str) -> InvalidParameter:
    """Return the error for a cell that the answer does not have."""
    return InvalidParameter(faults=[Fault("cell", message)])


def _edges(series: Sequence[CalendarBucket]) -> str:
    """Return the first and last bucket, as the end of a sentence."""
    if not series:
        return ""
    first, last = series[0].start.isoformat(), series[-1].start.isoformat()
    return f": from {first} to {last}".replace("+00:00", "Z")


def check_cells(series: Sequence[CalendarBucket], rows: int) -> None:
    """Compare the buckets of all rows with the limit. Raises: InvalidParameter."""
    if len(series) * rows > _MAX_CELLS:
        message = f"gives more than {_MAX_CELLS:,} buckets in all rows; use a lower limit"
        raise InvalidParameter(faults=[Fault("limit", message)])
