"""Compute the answer to `user_events`, a page of a history, from the table of events."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from common.errors import EventsDropped, format_instant
from common.questions.user_events import UserEvent, UserEventsQuery
from config.database import Cursor
from repo.columns.row_filter import EventRow, matching_rows
from repo.hide_from_pg_stat_activity import Hidden
from repo.statements import statements
from utils.keyset import Direction, Position
from utils.prepared_statements import prepared_statement
from utils.time.calendar import Range

SQL = statements("user_events")
_FIRST_PAGE = prepared_statement(SQL["user_events_first"])

MAX_TESTED = 10_000
"""Rows that are tested for a page, at most."""
_MAX_BATCH = 1_001  # rows that are read at once, with their properties
_GROWTH = 4  # each batch is as many times larger than the one before


class History(NamedTuple):
    """A page of a user's events, newest first."""

    time_range: Range
    """The range of the whole history."""
    events: list[UserEvent]
    older: str | None
    """The cursor of the page of older events; None at the end."""
    newer: str | None
    """The cursor of the page of newer events; None at the beginning."""


class _Page(NamedTuple):
    """Rows of a page, and of which rows it is."""

    horizon: datetime | None
    rows: list[Any]
    """In the direction of the page."""
    edges: list[Any]
    """Rows of which the first and the last begin and end the page; a filter may leave them out."""
    has_more: bool
    """Whether more rows follow in the direction."""


def user_events(cur: Cursor, query: UserEventsQuery, time_range: Range) -> History:
    """Return a page of a history. Raises: InvalidParameter, EventsDropped."""
    position = query.position
    read_page = _filtered_page if query.where else _page
    page = read_page(cur, query, time_range)
    covered_range = _covered_range(query, time_range, page.horizon)
    is_backwards = position is not None and position.direction == "newer"
    rows, edges = (page.rows[::-1], page.edges[::-1]) if is_backwards else page[1:3]
    older = _cursor(query, covered_range, edges, "older") if page.has_more or is_backwards else None
    newer = (
        _cursor(query, covered_range, edges, "newer")
        if (page.has_more if is_backwards else position)
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


def _page(cur: Cursor, query: UserEventsQuery, time_range: Range) -> _Page:
    """Return the page of a history without a filter."""
    return _read(cur, query, time_range, query.position, query.limit)


def _filtered_page(cur: Cursor, query: UserEventsQuery, time_range: Range) -> _Page:
    """Return the page of a history with a filter, for which a limited number of rows is tested."""
    rows, first, last, tested = list[Any](), None, None, 0
    position, size = query.position, query.limit + 1
    while True:
        batch = _read(cur, query, time_range, position, min(size, MAX_TESTED - tested))
        for row, is_match in zip(batch.rows, _matches(query, batch.rows), strict=True):
            if is_match and len(rows) == query.limit:
                return _Page(batch.horizon, rows, [first, last], has_more=True)
            first, last = first or row, row
            rows += [row] if is_match else []
        tested += len(batch.rows)
        if not batch.has_more or tested == MAX_TESTED:
            return _Page(batch.horizon, rows, [first, last] if tested else [], batch.has_more)
        direction = position.direction if position else "older"
        position = _position(last, time_range, direction)
        size = min(size * _GROWTH, _MAX_BATCH)


def _matches(query: UserEventsQuery, rows: list[Any]) -> list[bool]:
    assert query.where, "only a filter is tested"
    events = [EventRow(query.user_id, name, properties) for _, name, _, properties in rows]
    return matching_rows(query.where, events)


def _read(
    cur: Cursor, query: UserEventsQuery, time_range: Range, position: Position | None, size: int
) -> _Page:
    """Return the next rows in the direction of a position, which may be the beginning."""
    # One row more than the page has shows whether there is another page.
    params = {
        **_range_params(query, time_range),
        "user_id": Hidden(query.user_id),
        "limit": size + 1,
    }
    if position is None:
        cur.execute_prepared(_FIRST_PAGE, params)
    else:
        position_params = {"occurred_at": position.occurred_at, "event_id": str(position.event_id)}
        cur.execute(SQL[f"user_events_{position.direction}"], {**params, **position_params})
    records = cur.fetchmany(size)
    now, is_replica, horizon, *_ = records[0]
    cur.set_snapshot_time(now, is_replica=is_replica)
    rows = [row for _, _, _, *row in records if row[0] is not None]
    return _Page(horizon, rows, rows, cur.fetchone() is not None)


def _cursor(
    query: UserEventsQuery, time_range: Range, rows: list[Any], direction: Direction
) -> str | None:
    if not rows:
        return None
    row = rows[-1] if direction == "older" else rows[0]
    return query.cursor_at(_position(row, time_range, direction))


def _position(row: Any, time_range: Range, direction: Direction) -> Position:
    event_id, _, occurred_at, _ = row
    return Position(direction, occurred_at, UUID(event_id), *time_range)


def _event(tz: ZoneInfo, row: Any) -> UserEvent:
    # Properties remain the text that PostgreSQL returns: parsing would change long numbers.
    event_id, event_name, occurred_at, properties = row
    raw: Any = msgspec.Raw(properties)
    return UserEvent(event_id, event_name, occurred_at.astimezone(tz), raw)


def _range_params(query: UserEventsQuery, time_range: Range) -> dict[str, Any]:
    # The end is not cut to the current time: a history includes future events.
    return {"start": time_range.start, "end": time_range.end, "names": query.event_names}
