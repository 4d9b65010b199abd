"""The questions. Each is at once the query string, its checks, its API text and the cache key."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.base_questions import Bucketed, Counting, Ranged
from common.errors import InvalidCursor
from common.parameters import ALL_TIME, EARLIEST, LATEST, DateOrInstant, Integer, UserId
from utils.keyset import Position, decode_cursor, encode_cursor
from utils.time.calendar import Interval, Range

_DAY = timedelta(days=1)
_MONTH_DAYS = 32  # days, with the one that the first day may begin on elsewhere
_LENGTH_VARIATION = timedelta(days=8)  # than another, a quarter or a year can be


class EventCounts(Bucketed):
    """How many events there were, and of how many users."""

    interval: Interval | None = Field(
        None, description="Count per hour, day, ... of `tz` as well, zeros included."
    )
    compare: Literal["previous"] | None = Field(
        None,
        description="Count the range before this one as well: as much of it as is over of this "
        "one, shifted by years, quarters, months, weeks or days where the range is made of them.",
    )

    def _look_back(self, time_range: Range) -> timedelta:
        return (
            time_range.end - time_range.start + _LENGTH_VARIATION if self.compare else timedelta(0)
        )

    @property
    def series_interval(self) -> Interval | None:
        return self.interval


class TopEvents(Counting):
    """The most frequent event names."""

    limit: Integer = Field(10, ge=1, le=1000, description="How many names.")


class ActiveUsers(Bucketed):
    """Daily, weekly and monthly active users of each day."""

    window: Integer | None = Field(
        None, ge=1, le=366, description="Rolling days to count the active users of as well."
    )

    @property
    def windows(self) -> dict[str, str]:
        """What each number of the series counts over."""
        requested = {"active": f"rolling {self.window} days"} if self.window else {}
        return {
            "dau": "rolling 1 day",
            "wau": "rolling 7 days",
            "mau": "rolling 30 days",
            **requested,
            "calendar_week": f"calendar week from {self.week_start}, up to the day",
            "calendar_month": "calendar month, up to the day",
        }

    def _look_back(self, time_range: Range) -> timedelta:
        return max(_MONTH_DAYS, self.window or 0) * _DAY

    @property
    def series_interval(self) -> Interval:
        return "day"


class UserEventsQuery(Ranged):
    """A user's history, as much of the question as stands in the query string."""

    start: DateOrInstant | None = Field(
        None, description="The first moment asked about. Without a range: the whole history."
    )
    limit: Integer = Field(50, ge=1, le=1000, description="How many events a page has at most.")
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="`next_cursor` or `previous_cursor` of an answer to the same question."
    )


class UserEvents(UserEventsQuery):
    """What one user did, newest first."""

    concerns_one_user = True
    user_id: UserId

    @property
    def position(self) -> Position | None:
        """Where the page begins. Raises: InvalidCursor."""
        if self.cursor is None:
            return None
        try:
            position = decode_cursor(self.cursor, self._identity)
        except ValueError:
            raise InvalidCursor from None
        # The digest is no secret: whoever has the source can make one.
        is_range = EARLIEST <= position.start < position.end <= LATEST
        if not is_range or not EARLIEST <= position.occurred_at <= LATEST:
            raise InvalidCursor
        return position

    @property
    def is_full_history(self) -> bool:
        """Whether no range was asked about."""
        return self.start is None and self.last is None

    def cursor_at(self, position: Position) -> str:
        return encode_cursor(position, self._identity)

    def range(self, now: datetime) -> Range:
        """All later pages keep the range of the first; without one, a history is whole."""
        return self.fixed_range or super().range(now)

    @property
    def fixed_range(self) -> Range | None:
        """The same where it is known without the moment."""
        if position := self.position:
            return Range(position.start, position.end)
        if self.is_full_history:
            return ALL_TIME
        if self.start is None or self.end is None:
            return None
        return Range(self._edge_instant(self.start), self._edge_instant(self.end))

    @property
    def months(self) -> None:
        """Histories are read from the events, where nobody counts what changes."""

    @property
    def _identity(self) -> str:
        """What must stay the same from page to page."""
        return self.fingerprint(without=("cursor", "limit", "format"))

    @model_validator(mode="after")
    def _check_cursor(self) -> Self:
        _ = self.position
        return self
