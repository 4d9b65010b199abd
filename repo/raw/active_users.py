"""active_users from the events themselves."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from itertools import accumulate

from common.answers import ActiveDay, ActiveUsersData
from common.questions import ActiveUsers
from config.database import Cursor
from repo.raw.parameters import parameters
from repo.statements import statements
from utils.timebuckets import Interval, Range, day_start, days_of, first_day, next_first_day

SQL = statements("active_users")

_DAY = timedelta(days=1)
_LONGEST = 31
"""The days of the longest window that is always counted, the calendar month."""


def active_users(cur: Cursor, question: ActiveUsers, asked: Range) -> ActiveUsersData:
    days = days_of(asked, question.zone)
    shown = [day for day in days if day_start(day, question.zone) <= cur.as_of]
    return ActiveUsersData(_series(cur, question, shown) if shown else [])


def _series(cur: Cursor, question: ActiveUsers, shown: list[date]) -> list[ActiveDay]:
    reach = max(_LONGEST, question.window or 0)
    first = shown[0] - timedelta(days=reach)
    days = [first + timedelta(days=n) for n in range((shown[-1] - first).days + 1)]
    active = _active(cur, question, days)
    return [_point(cur, question, day, active, (day - first).days) for day in shown]


def _active(cur: Cursor, question: ActiveUsers, days: list[date]) -> Mapping[str, list[int]]:
    """For each window, the users who are active in the one that ends with each day."""
    starts = [day_start(day, question.zone) for day in [*days, days[-1] + _DAY]]
    more = {
        "starts": starts[:-1],
        "window": question.window or 1,
        "week_ends": _ends(question, days, "week"),
        "month_ends": _ends(question, days, "month"),
    }
    cur.execute(
        SQL["active_users"], parameters(cur, question, Range(starts[0], starts[-1]), **more)
    )
    steps: dict[str, list[int]] = defaultdict(lambda: [0] * len(days))
    for window, day, step in cur:
        if day < len(days):  # users still active when the series ends leave after it
            steps[window][day] = step
    return defaultdict(
        lambda: [0] * len(days), {window: list(accumulate(s)) for window, s in steps.items()}
    )


def _ends(question: ActiveUsers, days: list[date], unit: Interval) -> list[int]:
    """For each day the index of the day on which its week or month is over."""
    firsts = (first_day(day, unit, question.week_start) for day in days)
    return [(next_first_day(first, unit) - days[0]).days for first in firsts]


def _point(
    cur: Cursor, question: ActiveUsers, day: date, active: Mapping[str, list[int]], at: int
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
        partial=day_start(day + _DAY, question.zone) > cur.as_of,
    )
    return replace(point, active=active["active"][at]) if question.window else point
