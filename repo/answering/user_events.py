"""user_events from the events themselves, which is the only place that has them."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from common.answers import UserEvent
from common.errors import EventsDropped, instant
from common.questions import UserEvents
from config.database import Cursor
from repo.activity import Hidden
from repo.statements import statements
from utils.cursors import Direction, Position
from utils.kept import kept
from utils.timebuckets import Range

SQL = statements("user_events")
_FIRST = kept(SQL["user_events_first"])


class History(NamedTuple):
    """A page of it, newest first."""

    left: Range
    """Of what was asked about."""
    events: list[UserEvent]
    older: str | None
    """The cursors of the pages after and before it."""
    newer: str | None


def user_events(cur: Cursor, question: UserEvents, asked: Range) -> History:
    """Raises: EventsDropped."""
    position = question.position
    horizon, rows, more = _page(cur, question, asked, position)
    left = _left(question, asked, horizon)
    backwards = position is not None and position.direction == "newer"
    older = _cursor(question, left, rows, "older") if more or backwards else None
    newer = _cursor(question, left, rows, "newer") if (more if backwards else position) else None
    tz = question.zone
    return History(left, [_event(tz, row) for row in rows], older, newer)


def _left(question: UserEvents, asked: Range, horizon: datetime | None) -> Range:
    """A whole history begins where events are kept from. Raises: EventsDropped."""
    if horizon is None or asked.start >= horizon:
        return asked
    if question.is_whole:
        return Range(horizon, asked.end)
    works = f"`start={instant(horizon)}` or later, and without a range about all that is kept"
    raise EventsDropped(horizon, works)


def _page(
    cur: Cursor, question: UserEvents, asked: Range, position: Position | None
) -> tuple[datetime | None, list[Any], bool]:
    """The horizon, the rows, newest first, and whether there are more that way."""
    given = {
        **_range(question, asked),
        "user_id": Hidden(question.user_id),
        "limit": question.limit + 1,
    }
    if position is None:
        cur.execute_kept(_FIRST, given)
    else:
        at = {"moment": position.occurred_at, "event_id": str(position.event_id)}
        cur.execute(SQL[f"user_events_{position.direction}"], {**given, **at})
    found = cur.fetchmany(question.limit)
    now, is_replica, horizon, *_ = found[0]
    cur.tell(now, is_replica=is_replica)
    rows = [row for _, _, _, *row in found if row[0] is not None]
    is_backwards = position is not None and position.direction == "newer"
    return horizon, rows[::-1] if is_backwards else rows, cur.fetchone() is not None


def _cursor(
    question: UserEvents, asked: Range, rows: list[Any], direction: Direction
) -> str | None:
    if not rows:
        return None
    event_id, _, occurred_at, _ = rows[-1] if direction == "older" else rows[0]
    return question.cursor_at(Position(direction, occurred_at, UUID(event_id), *asked))


def _event(tz: ZoneInfo, row: Any) -> UserEvent:
    """Properties stay the text that PostgreSQL shows: a float would change long numbers."""
    event_id, event_name, occurred_at, properties = row
    raw: Any = msgspec.Raw(properties)
    return UserEvent(event_id, event_name, occurred_at.astimezone(tz), raw)


def _range(question: UserEvents, asked: Range) -> dict[str, Any]:
    """A record of what came in: events that are dated ahead are shown as well."""
    return {"start": asked.start, "end": asked.end, "names": question.names}
