"""The questions. Each is at once the query string, its checks, its API text and the cache key."""

import hashlib
import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from common.errors import InvalidCursor, refuse
from common.parameters import (
    EARLIEST,
    EVER,
    LATEST,
    OUTSIDE_YEARS,
    EventNames,
    LastText,
    Moment,
    Parameters,
    UserId,
    Zone,
)
from utils.cursors import Position, decode_cursor, encode_cursor
from utils.exports import Format
from utils.periods import Last, last_range, parse_last
from utils.slots import month_number
from utils.timebuckets import (
    MAX_BUCKETS,
    Interval,
    Range,
    Weekday,
    day_start,
    local_day,
    too_many_buckets,
)
from utils.zones import zone

DEFAULT_LAST = "30d"

_DAY = timedelta(days=1)
_MONTH = 32  # days, with the one that the first day may begin on elsewhere
_LONGER = timedelta(days=8)  # than another, a quarter or a year can be


class Question(Parameters):
    """What every question shares."""

    name: ClassVar[str]
    concerns_one_user: ClassVar[bool] = False
    """Whether an answer tells of one user: an erasure drops it from the cache."""

    format: Format | None = Field(
        None, description="The form of the answer; the `Accept` header does the same."
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def months(self) -> tuple[int, int] | None:
        """The first and last month of UTC that the answer depends on; None where they move."""
        return None

    def fingerprint(self, *, without: Collection[str] = ("format",)) -> str:
        """The same for questions that have the same answer, in every process."""
        asked = self.model_dump_json(exclude=set(without))
        return hashlib.sha256(f"{self.name} {asked}".encode()).hexdigest()


class Ranged(Question):
    """A question about a range of time: start <= t < end."""

    start: Moment | None = Field(None, description="The first moment asked about.")
    end: Moment | None = Field(
        None, description="The first moment after the range; without it, the end of today."
    )
    last: LastText | None = Field(
        None,
        description="Instead of `start` and `end`: `30d`, `12w` and `6mo` are whole days, weeks "
        "and months of `tz`, the present one included; `24h` counts back from now. "
        "Default: `30d`.",
        examples=["30d"],
    )
    tz: Zone = Field("UTC", description="The IANA time zone of dates, days, weeks and months.")
    week_start: Weekday = Field("monday", description="The day that weeks begin on.")
    event: EventNames = Field((), description="Only events of this name; may be repeated.")

    @property
    def zone(self) -> ZoneInfo:
        return zone(self.tz)

    @property
    def names(self) -> list[str] | None:
        """The event names asked about; None for all."""
        return list(self.event) or None

    @property
    def months(self) -> tuple[int, int] | None:
        if self.start is None or self.end is None:
            return None
        asked = Range(self._edge(self.start), self._edge(self.end))
        return month_number(asked.start - self._look_back(asked)), month_number(asked.end)

    def _look_back(self, asked: Range) -> timedelta:
        """How long before the range events matter, at most."""
        return timedelta(0)

    def range(self, now: datetime) -> Range:
        """What is asked about when it is asked at this moment. Raises: PydanticCustomError."""
        if self.start is None:
            return self._last(parse_last(self.last or DEFAULT_LAST), now)
        start = self._edge(self.start)
        if self.end is not None:
            return Range(start, self._edge(self.end))
        # A replica may have come no further than a day before the range.
        return Range(start, max(start, self._edge(local_day(now, self.zone) + _DAY)))

    def _last(self, last: Last, now: datetime) -> Range:
        try:
            asked = last_range(last, now, self.zone, self.week_start)
        except (ValueError, OverflowError):
            raise refuse("last", OUTSIDE_YEARS) from None
        if asked.start < EARLIEST:
            raise refuse("last", OUTSIDE_YEARS)
        return asked

    def _edge(self, moment: date | datetime) -> datetime:
        return moment if isinstance(moment, datetime) else day_start(moment, self.zone)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.last is not None and (self.start is not None or self.end is not None):
            raise refuse("last", "must not be given together with start or end")
        if self.end is not None and self.start is None:
            raise refuse("start", "must be given together with end")
        asked = self.range(datetime.now(UTC))
        if asked.start >= asked.end and not self._is_left_out:
            raise refuse("start", "must be before end, which is the end of today unless given")
        return self

    @property
    def _is_left_out(self) -> bool:
        """Whether it is about whole days that the zone has not: they are there, and empty."""
        start, end = self.start, self.end
        if isinstance(start, datetime) or isinstance(end, datetime):
            return False
        return start is not None and end is not None and start < end


class Counting(Ranged):
    """A question whose answer is counted, which costs more or less."""

    explain: bool = Field(
        False,
        description="Tell the plan instead of the answer: what the question would read, and what "
        "it may. What would read more is refused.",
    )


class Bucketed(Counting):
    """A question whose answer is cut at the hours, days, ... of a zone."""

    def _refuse_many(self, interval: Interval) -> None:
        if too_many_buckets(self.range(datetime.now(UTC)), interval):
            raise refuse(
                "interval",
                f"may give more than {MAX_BUCKETS} buckets over this range; use a longer interval "
                "or a shorter range",
            )


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

    def _look_back(self, asked: Range) -> timedelta:
        return asked.end - asked.start + _LONGER if self.compare else timedelta(0)

    @model_validator(mode="after")
    def _has_few_buckets(self) -> Self:
        if self.interval:
            self._refuse_many(self.interval)
        return self


class TopEvents(Counting):
    """The most frequent event names."""

    limit: int = Field(10, ge=1, le=1000, description="How many names.")


class ActiveUsers(Bucketed):
    """Daily, weekly and monthly active users of each day."""

    window: int | None = Field(
        None, ge=1, le=366, description="Rolling days to count the active users of as well."
    )

    @property
    def windows(self) -> dict[str, str]:
        """What each number of the series counts over."""
        asked = {"active": f"rolling {self.window} days"} if self.window else {}
        return {
            "dau": "rolling 1 day",
            "wau": "rolling 7 days",
            "mau": "rolling 30 days",
            **asked,
            "calendar_week": f"calendar week from {self.week_start}, up to the day",
            "calendar_month": "calendar month, up to the day",
        }

    def _look_back(self, asked: Range) -> timedelta:
        return max(_MONTH, self.window or 0) * _DAY

    @model_validator(mode="after")
    def _has_few_days(self) -> Self:
        self._refuse_many("day")
        return self


class UserEventsQuery(Ranged):
    """A user's history, as much of the question as stands in the query string."""

    start: Moment | None = Field(
        None, description="The first moment asked about. Without a range: the whole history."
    )
    limit: int = Field(50, ge=1, le=1000, description="How many events a page has at most.")
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
    def is_whole(self) -> bool:
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
        if self.is_whole:
            return EVER
        if self.start is None or self.end is None:
            return None
        return Range(self._edge(self.start), self._edge(self.end))

    @property
    def months(self) -> None:
        """Histories are read from the events, where nobody counts what changes."""

    @property
    def _identity(self) -> str:
        """What must stay the same from page to page."""
        return self.fingerprint(without=("cursor", "limit", "format"))

    @model_validator(mode="after")
    def _has_a_cursor_of_its_own(self) -> Self:
        _ = self.position
        return self
