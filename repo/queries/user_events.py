"""Compute the answer to `user_events`, a page of a history, from the table of events."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from common.errors import EventsDropped, format_instant
from common.questions.user_events import UserEvent, UserEventsQuery
from config.database import Cursor
from repo.hide_from_pg_stat_activity import Hidden
from repo.statements import statements
from utils.keyset import Direction, Position
from utils.prepared_statements import prepared_statement
from utils.time.calendar import Range

SQL = statements("user_events")
_FIRST_PAGE = prepared_statement(SQL["user_events_first"])


class History(NamedTuple):
    """A page of a user's events, newest first."""

    time_range: Range
    """The range of the whole history."""
    events: list[UserEvent]
    older: str | None
    """The cursor of the page of older events; None at the end."""
    newer: str | None
    """The cursor of the page of newer events; None at the beginning."""


def user_events(cur: Cursor, query: UserEventsQuery, time_range: Range) -> History:
    """Return a page of a history. Raises: EventsDropped."""
    position = query.position
    horizon, rows, has_more = _page(cur, query, time_range, position)
    covered_range = _covered_range(query, time_range, horizon)
    is_backwards = position is not None and position.direction == "newer"
    older = _cursor(query, covered_range, rows, "older") if has_more or is_backwards else None
    newer = (
        _cursor(query, covered_range, rows, "newer")
        if (has_more if is_backwards else position)
        else None
    )
    tz = query.zone
    return History(covered_range, [_event(tz, row) for row in rows], older, newer)


def _covered_range(query: UserEventsQuery, time_range: Range, horizon: datetime | None) -> Range:
    """Return the range; a full history begins at the horizon. Raises: EventsDropped."""
    if horizon is None or time_range.start >= horizon:
        return time_range
    if query.is_full_history:
        return Range(horizon, time_range.end)
    alternatives = (
        f"`start={format_instant(horizon)}` or later, or without a range about all stored events"
    )
    raise EventsDropped(horizon, alternatives)


def _page(
    cur: Cursor, query: UserEventsQuery, time_range: Range, position: Position | None
) -> tuple[datetime | None, list[Any], bool]:
    """Return the horizon, the rows, newest first, and whether more follow in the direction."""
    # One row more than the page has shows whether there is another page.
    params = {
        **_range_params(query, time_range),
        "user_id": Hidden(query.user_id),
        "limit": query.limit + 1,
    }
    if position is None:
        cur.execute_prepared(_FIRST_PAGE, params)
    else:
        position_params = {"occurred_at": position.occurred_at, "event_id": str(position.event_id)}
        cur.execute(SQL[f"user_events_{position.direction}"], {**params, **position_params})
    records = cur.fetchmany(query.limit)
    now, is_replica, horizon, *_ = records[0]
    cur.set_snapshot_time(now, is_replica=is_replica)
    rows = [row for _, _, _, *row in records if row[0] is not None]
    is_backwards = position is not None and position.direction == "newer"
    return horizon, rows[::-1] if is_backwards else rows, cur.fetchone() is not None


def _cursor(
    query: UserEventsQuery, time_range: Range, rows: list[Any], direction: Direction
) -> str | None:
    if not rows:
        return None
    event_id, _, occurred_at, _ = rows[-1] if direction == "older" else rows[0]
    return query.cursor_at(Position(direction, occurred_at, UUID(event_id), *time_range))


def _event(tz: ZoneInfo, row: Any) -> UserEvent:
    # Properties remain the text that PostgreSQL returns: parsing would change long numbers.
    event_id, event_name, occurred_at, properties = row
    raw: Any = msgspec.Raw(properties)
    return UserEvent(event_id, event_name, occurred_at.astimezone(tz), raw)


def _range_params(query: UserEventsQuery, time_range: Range) -> dict[str, Any]:
    # The end is not cut to the current time: a history includes future events.
    return {"start": time_range.start, "end": time_range.end, "names": query.event_names}
