"""The questions: each class defines the name, the query string, and its validation and texts."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.base_questions import Bucketed, Counting, Ranged
from common.errors import InvalidCursor
from common.parameters import ALL_TIME, EARLIEST, LATEST, DateOrInstant, Integer, UserId
from utils.keyset import Position, decode_cursor, encode_cursor
from utils.time.calendar import Interval, Range

_DAY = timedelta(days=1)
_MONTH_DAYS = 32  # the longest month, and a day for the difference of zones
# The previous range may be longer than this one, since months, quarters and years differ in length.
_LENGTH_VARIATION = timedelta(days=8)


class EventCounts(Bucketed):
    """The number of events and of distinct users."""

    interval: Interval | None = Field(
        None, description="Also count per hour, day or longer unit in `tz`, including zeros."
    )
    compare: Literal["previous"] | None = Field(
        None,
        description="Also count the previous range, cut to the part that has elapsed of this one. "
        "A range of whole years, quarters, months, weeks or days is shifted by these units, any "
        "other by its length.",
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

    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of event names.")


class ActiveUsers(Bucketed):
    """Daily, weekly and monthly active users of each day."""

    window: Integer | None = Field(
        None, ge=1, le=366, description="Also count the active users of this many rolling days."
    )

    @property
    def windows(self) -> dict[str, str]:
        """The window of each count in the series."""
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
