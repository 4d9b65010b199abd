"""Compute the answer to `user_profile` from the table of events."""

from typing import Any

import msgspec

from common.errors import EventsDropped, format_instant
from common.questions.answer import Answer, Meta
from common.questions.user_profile import (
    LatestValue,
    NamedEvents,
    UserProfileData,
    UserProfileQuery,
)
from config.database import Cursor
from repo.engine.watermark import read_horizon
from repo.hide_from_pg_stat_activity import Hidden
from repo.statements import statements
from utils.time.calendar import Range, local_day
from utils.time.slots import slot_start

SQL = statements("user_profile")


def user_profile(cur: Cursor, query: UserProfileQuery) -> Answer[UserProfileData]:
    """Return the profile of a user. Raises: InvalidParameter, EventsDropped."""
    time_range = _stored_range(cur, query)
    passed = time_range.until(cur.now)
    params = {
        "user_id": Hidden(query.user_id),
        "start": passed.start,
        "end": passed.end,
        "names": query.event_names,
    }
    data = _data(cur, query, params)
    meta = query.meta(time_range, cur.now, "events")
    if query.is_all_time:
        has_horizon = time_range.start != query.range_at(cur.now).start
        meta |= {"start": meta["start"] if has_horizon else None, "end": None}
    return Answer(data, Meta(**meta))


def _stored_range(cur: Cursor, query: UserProfileQuery) -> Range:
    """Return the range; that of all stored events begins at the horizon. Raises: EventsDropped."""
    time_range, horizon = query.range_at(cur.now), read_horizon(cur)
    if horizon is None or time_range.start >= horizon:
        return time_range
    if query.is_all_time:
        return Range(horizon, time_range.end)
    since = format_instant(horizon)
    raise EventsDropped(
        horizon, f"`start={since}` or later, or without a range about all stored events"
    )


def _data(cur: Cursor, query: UserProfileQuery, params: dict[str, Any]) -> UserProfileData:
    tz = query.zone
    cur.execute(SQL["user_profile_names"], params)
    rows = cur.fetchall()
    names = [
        NamedEvents(name, events, first.astimezone(tz), last.astimezone(tz))
        for name, events, first, last in rows
    ]
    cur.execute(SQL["user_profile_slots"], params)
    days = {local_day(slot_start(slot), tz) for (slot,) in cur.fetchall()}
    cur.execute(SQL["user_profile_properties"], params)
    # Values remain the text that PostgreSQL returns: parsing would change long numbers.
    properties = [
        LatestValue(name, msgspec.Raw(value), set_at.astimezone(tz))
        for name, value, set_at in cur.fetchall()
    ]
    return UserProfileData(
        user_id=query.user_id if rows else None,
        # Times of one zone are compared by what clocks show, so these are compared in UTC.
        first_seen=min(first for _, _, first, _ in rows).astimezone(tz) if rows else None,
        last_seen=max(last for _, _, _, last in rows).astimezone(tz) if rows else None,
        events=sum(each.events for each in names),
        active_days=len(days),
        event_names=names,
        properties=properties,
    )
