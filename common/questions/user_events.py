"""The question `user_events` and its answer."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, WithJsonSchema, model_validator

from common.errors import InvalidCursor
from common.parameters import ALL_TIME, EARLIEST, LATEST, DateOrInstant, Integer, UserId
from common.questions.answer import Answer, Meta, Table
from common.questions.base import Ranged
from utils.keyset import Position, decode_cursor, encode_cursor
from utils.time.calendar import Range


# Not frozen: creating a frozen instance takes three times as long, and a page has up to 1,000.
@dataclass(slots=True)
class UserEvent:
    event_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    event_name: str
    occurred_at: datetime
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PageMeta(Meta):
    next_cursor: str | None
    """The cursor for older events; null at the end of the history."""
    previous_cursor: str | None
    """The cursor for newer events; null at the beginning of the history."""


@dataclass(frozen=True, slots=True)
class UserEventsAnswer(Answer[list[UserEvent]]):
    meta: PageMeta

    def table(self) -> Table:
        return UserEvent, self.data

    def headers(self) -> dict[str, str]:
        """Return the cursors of the pages before and after this one."""
        cursors = {
            "X-Next-Cursor": self.meta.next_cursor,
            "X-Previous-Cursor": self.meta.previous_cursor,
        }
        return {header: cursor for header, cursor in cursors.items() if cursor is not None}


class UserEventsQuery(Ranged):
    """The query string of a user's history, whose user is in the path."""

    start: DateOrInstant | None = Field(
        None, description="The beginning of the range. Without a range: the full history."
    )
    limit: Integer = Field(50, ge=1, le=1000, description="The maximum number of events of a page.")
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        None,
        description="`next_cursor` or `previous_cursor` of an answer with the same parameters.",
    )


class UserEvents(UserEventsQuery):
    """The events of one user, newest first."""

    answer = UserEventsAnswer
    response_headers = ("X-Next-Cursor", "X-Previous-Cursor")
    concerns_one_user = True
    user_id: UserId

    @property
    def position(self) -> Position | None:
        """The position of the cursor; None for the first page. Raises: InvalidCursor."""
        if self.cursor is None:
            return None
        try:
            position = decode_cursor(self.cursor, self._identity)
        except ValueError:
            raise InvalidCursor from None
        # The digest has no secret key, so anybody who has the source code can make a valid cursor.
        is_range = EARLIEST <= position.start < position.end <= LATEST
        if not is_range or not EARLIEST <= position.occurred_at <= LATEST:
            raise InvalidCursor
        return position

    @property
    def is_full_history(self) -> bool:
        """Whether the request has no range."""
        return self.start is None and self.last is None

    def cursor_at(self, position: Position) -> str:
        return encode_cursor(position, self._identity)

    def range(self, now: datetime) -> Range:
        """Return the range of the first page, which cursors hold; all time for a full history."""
        return self.fixed_range or super().range(now)

    @property
    def fixed_range(self) -> Range | None:
        """The range if it does not depend on the current time, else None."""
        if position := self.position:
            return Range(position.start, position.end)
        if self.is_full_history:
            return ALL_TIME
        if self.start is None or self.end is None:
            return None
        return Range(self._edge_instant(self.start), self._edge_instant(self.end))

    @property
    def months(self) -> None:
        """None: histories are read from the events, for which cache versions are not tracked."""

    @property
    def _identity(self) -> str:
        """The fingerprint of the parameters that must not change from page to page."""
        return self.fingerprint(without=("cursor", "limit", "format"))

    @model_validator(mode="after")
    def _check_cursor(self) -> Self:
        _ = self.position  # raises InvalidCursor
        return self
