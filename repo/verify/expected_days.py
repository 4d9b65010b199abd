"""Which days the daily statistics should have, and where each begins and ends.

By the rules of the pinned tzdata: those of PostgreSQL may be older or newer.
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
    """first <= day < end, in a zone."""

    zone: str
    first: date
    end: date
    whole: date
    """The first day that all events of its windows are there of."""
    begun: date | None
    """The day of the first event."""
    folded_at: datetime
    """Until then days have begun, and may be over."""


class _Row(NamedTuple):
    """Of day_users."""

    day: date
    starts_at: datetime
    ends_at: datetime
    counted_at: datetime


def zones_to_verify(
    cur: cursor, state: FoldState, declared: Sequence[str], findings: Findings
) -> Iterator[Days]:
    """The zones that have statistics, or should have. One that tzdata lacks is a difference."""
    cur.execute(SQL["verify_zones"], {"declared": list(declared)})
    for name, first, last in cur.fetchall():
        if name not in zone_names():
            findings.add(Difference("day_users", repr(name), "a zone", "tzdata knows none"))
        elif first is not None or state.first_slot is not None:
            yield _days(state, name, first, last)


def folded_at(state: FoldState) -> datetime:
    return datetime.fromisoformat(state.folded_at)


def _days(state: FoldState, name: str, first: date | None, last: date | None) -> Days:
    tz, folded = zone(name), folded_at(state)
    first_event_day = None if state.first_slot is None else _slot_day(state.first_slot, tz)
    today = _local_date(folded, tz)
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
    """Each day since the first event has a row, and no other day, of where its date begins and
    ends; days that are over were counted after. Days that wait may be behind."""
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
        for stored_value, true in faults:
            findings.add(Difference("day_users", f"{days.zone} {day}", stored_value, true))


def _check_missing(
    day: date, days: Days, tz: ZoneInfo, queued: Collection[date]
) -> Iterator[tuple[str, str]]:
    if days.begun and days.begun <= day <= _local_date(days.folded_at, tz) and day not in queued:
        yield "no row", "a row"


def _check_row(row: _Row, days: Days, tz: ZoneInfo, is_queued: bool) -> Iterator[tuple[str, str]]:
    if row.day > _local_date(days.folded_at, tz):
        yield "a row", "a day of the future"
    if days.begun is None or row.day < days.begun:
        yield "a row", "a day before the first event"
    if is_queued:
        return
    if not _has_right_edges(row, tz):
        yield (
            f"{_format_instant(row.starts_at)}/{_format_instant(row.ends_at)}",
            "where the date begins and ends",
        )
    if row.counted_at < row.ends_at <= days.folded_at:
        yield (
            f"counted at {_format_instant(row.counted_at)}",
            f"over since {_format_instant(row.ends_at)}",
        )


def _has_right_edges(row: _Row, tz: ZoneInfo) -> bool:
    """Whether clocks show the date from the start on and not before, and no longer at the end."""
    begins = (
        _local_date(row.starts_at - _MICROSECOND, tz) < row.day <= _local_date(row.starts_at, tz)
    )
    return begins and _local_date(row.ends_at - _MICROSECOND, tz) <= row.day < _local_date(
        row.ends_at, tz
    )


def _local_date(instant: datetime, tz: ZoneInfo) -> date:
    """The date that clocks of the zone show."""
    return instant.astimezone(tz).date()


def _slot_day(slot: int, tz: ZoneInfo) -> date:
    return _local_date(_EPOCH + slot * _SLOT, tz)


def _format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(" ")
