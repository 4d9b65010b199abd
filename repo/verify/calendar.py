"""Verify the calendar of the daily statistics: which days have rows, and their limits.

The rules are those of the pinned tzdata package; PostgreSQL's may be older or newer.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor

from repo.verify.report import Difference, Findings
from repo.verify.snapshot import SQL, FoldState
from utils.time.zones import zone, zone_names

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
_DAY = timedelta(days=1)
_MICROSECOND = timedelta.resolution


class Days(NamedTuple):
    """A range of local days in a zone, first <= day < end."""

    zone: str
    first: date
    end: date
    complete_from: date
    """The first day whose windows include no dropped events."""
    first_event_day: date | None
    """The day of the first event; None without events."""
    folded_at: datetime
    """The watermark: days that begin before it are due."""


class _Row(NamedTuple):
    """A row of `day_users`."""

    day: date
    starts_at: datetime
    ends_at: datetime
    counted_at: datetime


def zones_to_verify(
    cur: cursor, state: FoldState, declared: Sequence[str], findings: Findings
) -> Iterator[Days]:
    """Yield the days to verify in each zone that has or should have statistics."""
    cur.execute(SQL["verify_zones"], {"declared_zones": list(declared)})
    for name, first, last in cur.fetchall():
        if name not in zone_names():
            findings.add(
                Difference("day_users", repr(name), "rows", "none, as tzdata has no such zone")
            )
        elif first is not None or state.first_slot is not None:
            yield _days(state, name, first, last)


def folded_at(state: FoldState) -> datetime:
    return datetime.fromisoformat(state.folded_at)


def _days(state: FoldState, name: str, first: date | None, last: date | None) -> Days:
    tz, folded = zone(name), folded_at(state)
    first_event_day = None if state.first_slot is None else _slot_day(state.first_slot, tz)
    today = _local_date(folded, tz)
    # The windows of a day reach 29 days back, and the horizon may cut a day.
    complete_from = _slot_day(max(state.horizon, 0), tz) + 30 * _DAY
    first_days = [day for day in (first, first_event_day) if day]
    return Days(
        name,
        min(first_days),
        max(today, last or today) + _DAY,
        complete_from,
        first_event_day,
        folded,
    )


def verify_calendar(cur: cursor, days: Days, queued: Collection[date], findings: Findings) -> None:
    """Check that exactly the days since the first event have rows, with the right limits.

    Days that have ended must have been counted after their end. Queued days may be out of date.
    """
    cur.execute(SQL["verify_days"], days._asdict())
    stored = {row.day: row for row in map(_Row._make, cur)}
    tz = zone(days.zone)
    for n in range((days.end - days.first).days):
        day = days.first + n * _DAY
        row = stored.get(day)
        faults = (
            _check_row(row, days, tz, day in queued)
            if row
            else _check_missing(day, days, tz, queued)
        )
        for stored_value, expected in faults:
            findings.add(Difference("day_users", f"{days.zone} {day}", stored_value, expected))


def _check_missing(
    day: date, days: Days, tz: ZoneInfo, queued: Collection[date]
) -> Iterator[tuple[str, str]]:
    if (
        days.first_event_day
        and days.first_event_day <= day <= _local_date(days.folded_at, tz)
        and day not in queued
    ):
        yield "no row", "a row"


def _check_row(row: _Row, days: Days, tz: ZoneInfo, is_queued: bool) -> Iterator[tuple[str, str]]:
    if row.day > _local_date(days.folded_at, tz):
        yield "a row", "no row for a future day"
    if days.first_event_day is None or row.day < days.first_event_day:
        yield "a row", "no row before the first event"
    if is_queued:  # counts and limits may be out of date until it is counted
        return
    if not _has_right_edges(row, tz):
        yield (
            f"{_format_instant(row.starts_at)}/{_format_instant(row.ends_at)}",
            "the beginning and end of the local day",
        )
    if row.counted_at < row.ends_at <= days.folded_at:
        yield (
            f"counted at {_format_instant(row.counted_at)}",
            f"after its end, {_format_instant(row.ends_at)}",
        )


def _has_right_edges(row: _Row, tz: ZoneInfo) -> bool:
    """Return whether clocks show the date from the start on, not before, and not at the end."""
    begins = (
        _local_date(row.starts_at - _MICROSECOND, tz) < row.day <= _local_date(row.starts_at, tz)
    )
    return begins and _local_date(row.ends_at - _MICROSECOND, tz) <= row.day < _local_date(
        row.ends_at, tz
    )


def _local_date(instant: datetime, tz: ZoneInfo) -> date:
    """Return the date that clocks of the zone show."""
    return instant.astimezone(tz).date()


def _slot_day(slot: int, tz: ZoneInfo) -> date:
    return _local_date(_EPOCH + slot * _SLOT, tz)


def _format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(" ")
