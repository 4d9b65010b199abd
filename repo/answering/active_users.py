"""active_users, made of counts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise

from common.answers import ActiveDay, ActiveUsersData
from common.questions import ActiveUsers
from repo.sources import Source
from utils.timebuckets import Range, day_start, days_of

_DAY = timedelta(days=1)
_LONGEST = 31
"""The days of the longest window that is always counted, the calendar month."""


def active_users(
    source: Source, question: ActiveUsers, asked: Range, as_of: datetime
) -> ActiveUsersData:
    days = days_of(asked, question.zone)
    shown = [day for day in days if day_start(day, question.zone) <= as_of]
    return ActiveUsersData(_series(source, question, shown, as_of) if shown else [])


def _series(
    source: Source, question: ActiveUsers, shown: list[date], as_of: datetime
) -> list[ActiveDay]:
    reach = max(_LONGEST, question.window or 0)
    first = shown[0] - reach * _DAY
    days = [first + n * _DAY for n in range((shown[-1] - first).days + 1)]
    starts = [day_start(day, question.zone) for day in [*days, days[-1] + _DAY]]
    ranges = [Range(*edges).until(as_of) for edges in pairwise(starts)]
    active = source.active(days, ranges)
    return [_point(question, day, active, (day - first).days, as_of) for day in shown]


def _point(
    question: ActiveUsers, day: date, active: Mapping[str, list[int]], at: int, as_of: datetime
) -> ActiveDay:
    dau, wau, mau = (active[window][at] for window in ("dau", "wau", "mau"))
    point = ActiveDay(
        date=day,
        dau=dau,
        wau=wau,
        mau=mau,
        stickiness=dau / mau if mau else None,
        calendar_week=active["calendar_week"][at],
        calendar_month=active["calendar_month"][at],
        partial=day_start(day + _DAY, question.zone) > as_of,
    )
    return replace(point, active=active["active"][at]) if question.window else point
