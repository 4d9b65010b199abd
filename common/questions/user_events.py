"""The question `user_events` and its answer."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field, WithJsonSchema

from common.dates import ALL_TIME, EARLIEST, LATEST
from common.errors import InvalidCursor
from common.parameters import DateOrInstant, Integer, UserId, Where
from common.query import Period, Query
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


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEventsQuery(Query):
    """A page of a history. Its period is that of the first page, which cursors hold."""

    subject: ClassVar[str] = "The events of one user"
    user_id: str
    limit: int
    position: Position | None
    """The position of the cursor; None for the first page."""
    is_full_history: bool
    """Whether the request has no range."""
    identity: str
    """The fingerprint of the parameters that must not change from page to page."""

    def cursor_at(self, position: Position) -> str:
        """Return the cursor of a page."""
        return encode_cursor(position, self.identity)


class UserEventsParameters(Ranged):
    """The query string of a user's history, whose user is in the path."""

    start: DateOrInstant | None = Field(
        None, description="The beginning of the range. Without a range: the full history."
    )
    where: Where = Field(
        (),
        description="Return events that match this condition only, such as `plan:pro` or "
        "`amount:>=100`; may be repeated, and all must hold. A page may have fewer events than "
        "`limit`, or none, although `next_cursor` is not null.",
    )
    limit: Integer = Field(50, ge=1, le=1000, description="The maximum number of events of a page.")
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        None,
        description="`next_cursor` or `previous_cursor` of an answer with the same parameters.",
    )


class UserEvents(UserEventsParameters):
    """The events of one user, newest first."""

    answer = UserEventsAnswer
    response_headers = ("X-Next-Cursor", "X-Previous-Cursor")
    concerns_one_user = True
    has_values = True
    user_id: UserId

    @cached_property
    def query(self) -> UserEventsQuery:
        """Raises: InvalidCursor."""
        return UserEventsQuery(
            **self._resolved(),
            where=next(iter(self.where), None),
            user_id=self.user_id,
            limit=self.limit,
            position=self.page_position,
            is_full_history=self._is_full_history,
            identity=self.identity,
        )

    def _period(self) -> Period:
        if position := self.page_position:
            return Period(position.start, position.end)
        return Period(*ALL_TIME) if self._is_full_history else super()._period()

    def _months(self, _: Range) -> None:
        """Return None: histories are read from the events, for which versions are not tracked."""

    @property
    def _is_full_history(self) -> bool:
        return self.start is None and self.last is None

    @cached_property
    def page_position(self) -> Position | None:
        """The position of the cursor; None for the first page. Raises: InvalidCursor."""
        if self.cursor is None:
            return None
        try:
            position = decode_cursor(self.cursor, self.identity, Position)
        except ValueError:
            raise InvalidCursor from None
        # The digest has no secret key, so anybody who has the source code can make a valid cursor.
        is_range = EARLIEST <= position.start < position.end <= LATEST
        if not is_range or not EARLIEST <= position.occurred_at <= LATEST:
            raise InvalidCursor
        return position

    @cached_property
    def identity(self) -> str:
        """The fingerprint of the parameters that must not change from page to page."""
        # Without a filter the cursors are those of versions that had none.
        unused = () if self.where else ("where",)
        return self.fingerprint(without=("cursor", "limit", "format", *unused))
