"""A test oracle: the answers in plain Python, independent of how the service computes them.

It labels each event with the local date and hour at its time, and counts labels; it computes no
edges of buckets. (Zones whose clocks are put back across midnight are left out, because a label is
ambiguous there.)
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


@dataclass(frozen=True)
class Event:
    event_id: str
    user_id: str
    event_name: str
    occurred_at: datetime
    properties: str = "{}"


def users(events: list[Event]) -> int:
    return len({event.user_id for event in events} - {""})


def events_between(
    events: list[Event], start: datetime | None, end: datetime | None, names: tuple[str, ...]
) -> list[Event]:
    """The distinct events of a range and of these names; None is no bound."""
    by_id = {event.event_id: event for event in reversed(events)}  # the first event of an id counts
    return [
        event
        for event in by_id.values()
        if (start is None or start <= event.occurred_at)
        and (end is None or event.occurred_at < end)
        and (not names or event.event_name in names)
    ]


def label(instant: datetime, interval: str, tz: str, week_start: str = "monday") -> Any:
    local = instant.astimezone(ZoneInfo(tz))
    day = local.date()
    if interval == "hour":
        return day, local.hour, local.utcoffset()
    if interval == "week":
        return day - timedelta(days=(day.weekday() - WEEKDAYS.index(week_start)) % 7)
    if interval == "quarter":
        return day.year, (day.month - 1) // 3
    return {"day": day, "month": (day.year, day.month), "year": day.year}[interval]


def by_label(
    events: list[Event], interval: str, tz: str, week_start: str
) -> dict[Any, tuple[int, int]]:
    groups: dict[Any, list[Event]] = {}
    for event in events:
        groups.setdefault(label(event.occurred_at, interval, tz, week_start), []).append(event)
    return {key: (len(group), users(group)) for key, group in groups.items()}


def top(events: list[Event], limit: int) -> list[tuple[str, int, int]]:
    counts = Counter(event.event_name for event in events)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return [(n, counts[n], users([e for e in events if e.event_name == n])) for n in names[:limit]]


def active(events: list[Event], tz: str, first: date, last: date) -> int:
    """The number of users with an event on one of these local days."""
    return len(active_users(events, tz, first, last))


def active_users(events: list[Event], tz: str, first: date, last: date) -> set[str]:
    """The users with an event on one of these local days."""
    active_events = [e for e in events if first <= label(e.occurred_at, "day", tz) <= last]
    return {event.user_id for event in active_events} - {""}
