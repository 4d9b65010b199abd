"""Answers that PostgreSQL computes from the events alone, by one statement for each part."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from common.query import Query
from common.questions.active_users import ActiveDay, ActiveUsersData, ActiveUsersQuery
from common.questions.answer import Bucket, absent_field
from common.questions.event_counts import EventCountsData, EventCountsQuery, Previous
from common.questions.top_events import Other, TopEvent, TopEventsData, TopEventsQuery
from config.database import Cursor
from utils.time.calendar import (
    Interval,
    Range,
    buckets,
    day_start,
    days_of,
    first_day,
    local_day,
    next_first_day,
)
from utils.time.ranges import previous_range

_FOLDER = Path(__file__).parent / "sql"
_LEAD_DAYS = 366  # as long as the longest window
_DAY = timedelta(days=1)
_MOMENT = timedelta(microseconds=1)


def _statements() -> dict[str, str]:
    text = "\n".join(path.read_text() for path in sorted(_FOLDER.glob("*.sql")))
    _, *parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


SQL = _statements()


def answer(cur: Cursor, query: Query, now: datetime) -> Any:
    """The data of the answer to a query."""
    time_range = query.range_at(now)
    if isinstance(query, EventCountsQuery):
        return _event_counts(cur, query, time_range, now)
    if isinstance(query, TopEventsQuery):
        return _top_events(cur, query, time_range.until(now))
    assert isinstance(query, ActiveUsersQuery)
    return _active_users(cur, query, time_range, now)


def _rows(cur: Cursor, name: str, query: Query, time_range: Range, **more: Any) -> list[Any]:
    params = {**time_range._asdict(), "names": query.event_names, **more}
    cur.execute(SQL[name], params)
    return cur.fetchall()


def _event_counts(
    cur: Cursor, query: EventCountsQuery, time_range: Range, now: datetime
) -> EventCountsData:
    ((events, users),) = _rows(cur, "event_counts", query, time_range.until(now))
    data = EventCountsData(events, users)
    if query.interval:
        data = replace(data, series=_series(cur, query, time_range, now))
    if query.has_previous:
        before = previous_range(time_range, now, query.zone, query.week_start)
        ((events, users),) = _rows(cur, "event_counts", query, before.until(now))
        start, end = (edge.astimezone(query.zone) for edge in before)
        previous = Previous(start, end, events, users)
        if query.interval:
            previous = replace(previous, series=_series(cur, query, before, now))
        data = replace(data, previous=previous)
    return data


def _series(cur: Cursor, query: EventCountsQuery, time_range: Range, now: datetime) -> list[Bucket]:
    assert query.interval
    parts = buckets(time_range, query.interval, query.zone, week_start=query.week_start)
    parts = [part for part in parts if part.start <= now]
    starts = [part.start for part in parts]
    rows = _rows(cur, "event_counts_series", query, time_range.until(now), starts=starts)
    counts = {index: (events, users) for index, events, users in rows}
    return [
        Bucket(
            day=absent_field() if query.interval == "hour" else days_of(part, query.zone)[0],
            start=part.start.astimezone(query.zone),
            end=part.end.astimezone(query.zone),
            events=counts.get(index, (0, 0))[0],
            users=counts.get(index, (0, 0))[1],
            partial=part.end > now,
            cut=not (_begins(query, part.start) and _begins(query, part.end)),
        )
        for index, part in enumerate(parts)
    ]


def _begins(query: EventCountsQuery, instant: datetime) -> bool:
    """Whether a unit begins at an instant."""
    assert query.interval
    if query.interval == "hour":
        local, before = (each.astimezone(query.zone) for each in (instant, instant - _MOMENT))
        is_full = (local.minute, local.second, local.microsecond) == (0, 0, 0)
        return is_full or local.utcoffset() != before.utcoffset()
    day = local_day(instant, query.zone)
    return instant == day_start(first_day(day, query.interval, query.week_start), query.zone)


def _top_events(cur: Cursor, query: TopEventsQuery, time_range: Range) -> TopEventsData:
    *names, (_, events, users) = _rows(cur, "top_events", query, time_range)
    top, rest = names[: query.limit], names[query.limit :]
    top_names = [name for name, *_ in top]
    ((rest_users,),) = _rows(cur, "top_events_other", query, time_range, top_names=top_names)
    rest_events = sum(count for _, count, _ in rest)
    rows = [TopEvent(name, count, who, count / events) for name, count, who in top]
    share = rest_events / events if events else 0.0
    return TopEventsData(events, users, rows, Other(len(rest), rest_events, rest_users, share))


def _active_users(
    cur: Cursor, query: ActiveUsersQuery, time_range: Range, now: datetime
) -> ActiveUsersData:
    shown = [day for day in days_of(time_range, query.zone) if day_start(day, query.zone) <= now]
    if not shown:
        return ActiveUsersData([])
    first = shown[0] - _LEAD_DAYS * _DAY
    days = [first + n * _DAY for n in range((shown[-1] - first).days + 1)]
    active = _windows(cur, query, days, now)
    new = _new_users(cur, query, days, now)
    return ActiveUsersData(
        [
            _point(
                query,
                day,
                {w: active[w][(day - first).days] for w in active},
                new.get((day - first).days, 0),
                now,
            )
            for day in shown
        ]
    )


def _new_users(
    cur: Cursor, query: ActiveUsersQuery, days: Sequence[date], now: datetime
) -> dict[int, int]:
    """The number of new users by the index of the day."""
    starts = [day_start(day, query.zone) for day in [*days, days[-1] + _DAY]]
    time_range = Range(starts[0], starts[-1]).until(now)
    return dict(_rows(cur, "first_days", query, time_range, starts=starts[:-1]))


def _windows(
    cur: Cursor, query: ActiveUsersQuery, days: Sequence[date], now: datetime
) -> dict[str, list[int]]:
    starts = [day_start(day, query.zone) for day in [*days, days[-1] + _DAY]]
    ranges = [Range(*edges).until(now) for edges in pairwise(starts)]
    rows = _rows(
        cur,
        "active_users",
        query,
        Range(ranges[0].start, ranges[-1].end),
        starts=[part.start for part in ranges],
        window=query.window or 1,
        week_ends=_last_indexes(query, days, "week"),
        month_ends=_last_indexes(query, days, "month"),
    )
    # The statement returns the daily change of each window's number of users.
    steps: dict[str, list[int]] = defaultdict(lambda: [0] * len(days))
    for window in ("dau", "wau", "mau", "active", "calendar_week", "calendar_month"):
        _ = steps[window]
    for window, day, step in rows:
        if day < len(days):  # users leave a window after the end of the series
            steps[window][day] = step
    return {window: list(accumulate(stepped)) for window, stepped in steps.items()}


def _last_indexes(query: Query, days: Sequence[date], unit: Interval) -> list[int]:
    """For each day, the index of the first day after its week or month."""
    firsts = (first_day(day, unit, query.week_start) for day in days)
    return [(next_first_day(first, unit) - days[0]).days for first in firsts]


def _point(
    query: ActiveUsersQuery, day: date, users: dict[str, int], new: int, now: datetime
) -> ActiveDay:
    active = users.pop("active")
    return ActiveDay(
        date=day,
        stickiness=users["dau"] / users["mau"] if users["mau"] else None,
        partial=day_start(day + _DAY, query.zone) > now,
        **users,
        **({"active": active} if query.window else {}),
        new=new,
        existing=users["dau"] - new,
    )
