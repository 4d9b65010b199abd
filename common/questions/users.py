"""The question `users` and its answer: a list of users, page by page."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import Field

from common.dates import ALL_TIME, EARLIEST, LATEST
from common.errors import InvalidCursor
from common.parameters import DateOrInstant, Integer
from common.query import Period, Query
from common.questions.answer import Answer, Meta, Table
from common.questions.base import Counting
from utils.keyset import AwareDatetime, decode_cursor, encode_cursor
from utils.time.calendar import Range

Sort = Literal["last_seen", "first_seen", "events"]

_SNAPSHOT = re.compile(r"\d{1,19}:\d{1,19}:(\d{1,19}(,\d{1,19})*)?", re.ASCII)
_MAX_CURSOR = 8_000  # a snapshot lists the transactions that are open


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
class UsersMeta(Meta):
    count: int
    """The number of users on all pages."""
    next_cursor: str | None
    """The cursor of the next page; null at the end of the list."""

    # The cursor holds the snapshot of the first page, which differs between computations.
    volatile_fields: ClassVar[tuple[str, ...]] = (*Meta.volatile_fields, "next_cursor")


@dataclass(frozen=True, slots=True)
class UsersAnswer(Answer[list[User]]):
    meta: UsersMeta

    def table(self) -> Table:
        return User, self.data

    def headers(self) -> dict[str, str]:
        """Return the number of users, the cursor of the next page, and unknown names."""
        cursor = self.meta.next_cursor
        headers = {"X-Count": str(self.meta.count), **({"X-Next-Cursor": cursor} if cursor else {})}
        return self.meta.headers() | headers


class UsersPosition(msgspec.Struct, frozen=True, array_like=True):
    """A place after one user, and what the first page was computed from."""

    value: int
    """By which the user was sorted: a number of events, or microseconds since 2000-01-01 UTC."""
    user_id: str
    start: AwareDatetime
    end: AwareDatetime
    now: AwareDatetime
    """The clock of the first page."""
    snapshot: str
    """The transactions whose events the first page counted."""
    lineage: str
    """The database that transactions are those of."""

    @property
    def is_valid(self) -> bool:
        is_range = EARLIEST <= self.start < self.end <= LATEST and EARLIEST <= self.now <= LATEST
        is_user = abs(self.value) < 2**63 and "\0" not in self.user_id
        return is_range and is_user and bool(_SNAPSHOT.fullmatch(self.snapshot))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersQuery(Query):
    """A page of users. Its period is that of the first page, which cursors hold."""

    sort: Sort
    limit: int
    position: UsersPosition | None
    """The position of the cursor; None for the first page."""
    is_all_time: bool
    """Whether the request has no range."""
    identity: str
    """The fingerprint of the parameters that must not change from page to page."""

    def definition(self, time_range: Range) -> str:
        return (
            f"The users with an event{self.criteria} {self.range_text(time_range)}, with the first "
            "and the last of these events, their number, and the number of days of "
            f"{self.zone.key} that have one."
        )

    def cursor_at(self, position: UsersPosition) -> str:
        """Return the cursor of a page."""
        return encode_cursor(position, self.identity)


class Users(Counting):
    """The users who have events, page by page."""

    answer = UsersAnswer
    response_headers: ClassVar[tuple[str, ...]] = (
        *Counting.response_headers,
        "X-Count",
        "X-Next-Cursor",
    )
    concerns_one_user = True

    start: DateOrInstant | None = Field(
        None, description="The beginning of the range. Without a range: all stored events."
    )
    sort: Sort = Field(
        "last_seen",
        description="The order, the latest or the most first; equal ones by `user_id`.",
    )
    limit: Integer = Field(50, ge=1, le=1000, description="The maximum number of users of a page.")
    cursor: Annotated[str, Field(max_length=_MAX_CURSOR)] | None = Field(
        None, description="`next_cursor` of an answer with the same parameters."
    )

    @cached_property
    def query(self) -> UsersQuery:
        """Raises: InvalidCursor."""
        return UsersQuery(
            **self._resolved(),
            sort=self.sort,
            limit=self.limit,
            position=self.page_position,
            is_all_time=self.start is None and self.last is None,
            identity=self.identity,
        )

    def _resolved(self) -> dict[str, Any]:
        # Pages of one snapshot must not be replaced, so they have no cache version.
        return super()._resolved() | {"months": None}

    def _period(self) -> Period:
        if position := self.page_position:
            return Period(position.start, position.end)
        is_all_time = self.start is None and self.last is None
        return Period(*ALL_TIME) if is_all_time else super()._period()

    @cached_property
    def page_position(self) -> UsersPosition | None:
        """The position of the cursor; None for the first page. Raises: InvalidCursor."""
        if self.cursor is None:
            return None
        try:
            position = decode_cursor(self.cursor, self.identity, UsersPosition)
        except ValueError:
            raise InvalidCursor from None
        # The digest has no secret key, so anybody who has the source code can make a valid cursor.
        if not position.is_valid:
            raise InvalidCursor
        return position

    @cached_property
    def identity(self) -> str:
        """The fingerprint of the parameters that must not change from page to page."""
        return self.fingerprint(without=("cursor", "limit", "format", "explain"))
