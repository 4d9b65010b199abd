"""Compute the answer to `active_users` from the counts of a source."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise

from common.questions.active_users import ActiveDay, ActiveUsers, ActiveUsersData
from repo.engine.source import Source
from utils.time.calendar import Range, day_start, days_of

_DAY = timedelta(days=1)
_LONGEST_WINDOW = 31  # days of the calendar month, the longest window that is always counted


def active_users(
    source: Source, question: ActiveUsers, time_range: Range, as_of: datetime
) -> ActiveUsersData:
    """Return the active users of each day that has begun by `as_of`."""
    days = days_of(time_range, question.zone)
    begun_days = [day for day in days if day_start(day, question.zone) <= as_of]
    return ActiveUsersData(_series(source, question, begun_days, as_of) if begun_days else [])


def _series(
    source: Source, question: ActiveUsers, begun_days: list[date], as_of: datetime
) -> list[ActiveDay]:
    # The windows of the first days reach back before the range.
    lead_days = max(_LONGEST_WINDOW, question.window or 0)
    first = begun_days[0] - lead_days * _DAY
    days = [first + n * _DAY for n in range((begun_days[-1] - first).days + 1)]
    starts = [day_start(day, question.zone) for day in [*days, days[-1] + _DAY]]
    ranges = [Range(*edges).until(as_of) for edges in pairwise(starts)]
    active = source.active(days, ranges)
    return [_point(question, day, active, (day - first).days, as_of) for day in begun_days]


def _point(
    question: ActiveUsers, day: date, active: Mapping[str, list[int]], index: int, as_of: datetime
) -> ActiveDay:
    dau, wau, mau = (active[window][index] for window in ("dau", "wau", "mau"))
    point = ActiveDay(
        date=day,
        dau=dau,
        wau=wau,
        mau=mau,
        stickiness=dau / mau if mau else None,
        calendar_week=active["calendar_week"][index],
        calendar_month=active["calendar_month"][index],
        partial=day_start(day + _DAY, question.zone) > as_of,
    )
    return replace(point, active=active["active"][index]) if question.window else point
