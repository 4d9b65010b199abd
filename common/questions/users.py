"""The question `users` and its answer: a list of users, page by page."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from common.dates import ALL_TIME
from common.parameters import DateOrInstant, Integer
from common.query import Period, Query
from common.questions.answer import Answer, Table
from common.questions.base import LIST_HEADERS, Counting
from common.questions.user_lists import UserListMeta
from common.user_pages import CursorText, UserPage, page_of
from utils.time.calendar import Range

Sort = Literal["last_seen", "first_seen", "events"]


@dataclass(slots=True)
class User:
    """A user, and what they did in the range."""

    user_id: str
    first_seen: datetime
    last_seen: datetime
    events: int
    active_days: int
    """The number of local days with an event."""


@dataclass(frozen=True, slots=True)
class UsersAnswer(Answer[list[User]]):
    meta: UserListMeta

    def table(self) -> Table:
        return User, self.data

    def headers(self) -> dict[str, str]:
        return self.meta.headers()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersQuery(Query):
    """A page of users. Its period is that of the first page, which cursors hold."""

    sort: Sort
    is_all_time: bool
    """Whether the request has no range."""

    def definition(self, time_range: Range) -> str:
        return (
            f"The users with an event{self.criteria} {self.range_text(time_range)}, with the first "
            "and the last of these events, their number, and the number of days of "
            f"{self.zone.key} that have one."
        )


class Users(Counting):
    """The users who have events, page by page."""

    answer = UsersAnswer
    response_headers = (*Counting.response_headers, *LIST_HEADERS)
    concerns_one_user = True

    start: DateOrInstant | None = Field(
        None, description="The beginning of the range. Without a range: all stored events."
    )
    sort: Sort = Field(
        "last_seen",
        description="The order, the latest or the most first; equal ones by `user_id`.",
    )
    limit: Integer = Field(50, ge=1, le=1000, description="The maximum number of users of a page.")
    cursor: CursorText | None = Field(
        None, description="`next_cursor` of an answer with the same parameters."
    )

    @cached_property
    def query(self) -> UsersQuery:
        """Raises: InvalidCursor."""
        return UsersQuery(
            **self._resolved(),
            sort=self.sort,
            page=self.page,
            is_all_time=self.start is None and self.last is None,
        )

    def _resolved(self) -> dict[str, Any]:
        # Pages of one snapshot must not be replaced, so they have no cache version.
        return super()._resolved() | {"months": None}

    def _period(self) -> Period:
        if position := self.page.position:
            return Period(position.start, position.end)
        is_all_time = self.start is None and self.last is None
        return Period(*ALL_TIME) if is_all_time else super()._period()

    @cached_property
    def page(self) -> UserPage:
        """The page that the cursor leads to. Raises: InvalidCursor."""
        identity = self.fingerprint(without=("cursor", "limit", "format", "explain"))
        return page_of(self.cursor, self.limit, identity)
