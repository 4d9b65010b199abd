"""The questions. Each is at once the query string, its checks, its API text and the cache key."""

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic import WithJsonSchema, model_validator

from common.errors import refuse
from utils.periods import Last, last_range, parse_last
from utils.timebuckets import (
    MAX_BUCKETS,
    Interval,
    Range,
    Weekday,
    day_start,
    local_day,
    too_many_buckets,
)
from utils.zones import zone, zone_names

Format = Literal["json", "csv", "ndjson"]

EARLIEST = datetime(1999, 12, 31, tzinfo=UTC)
LATEST = datetime(2100, 1, 2, tzinfo=UTC)
"""A day around 2000 to 2099, the years that events may be of, for zones ahead of UTC or behind."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_DAY = timedelta(days=1)
_YEARS = "must be within the years 2000 to 2099"

DEFAULT_LAST = "30d"


def _moment(text: object) -> date | datetime:
    """Raises: ValueError, for pydantic to name the parameter."""
    try:
        if isinstance(text, str) and _DATE.fullmatch(text):
            return _within_years(date.fromisoformat(text))
        if isinstance(text, str) and _INSTANT.fullmatch(text):
            return _within_years(datetime.fromisoformat(text.upper()).astimezone(UTC))
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        "must be a date (2025-01-31) or an instant with its offset "
        "(2025-01-31T09:00:00Z, 2025-01-31T09:00:00%2B01:00; a plus sign is written %2B)"
    )


def _within_years(moment: M) -> M:
    """Raises: PydanticCustomError."""
    earliest, latest = (EARLIEST, LATEST) if isinstance(moment, datetime) else _DATES
    if not earliest <= moment <= latest:
        raise PydanticCustomError("year", _YEARS)
    return moment


def _known_zone(name: str) -> str:
    if name not in zone_names():
        raise ValueError("must be an IANA time zone, such as UTC or Europe/Berlin")
    return name


def _well_formed_last(text: str) -> str:
    parse_last(text)
    return text


def _as_set(names: tuple[str, ...]) -> tuple[str, ...]:
    """Questions that differ by order alone are one question."""
    return tuple(sorted(set(names)))


def _storable(text: str) -> str:
    """What PostgreSQL's text can hold."""
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _at_most_bytes(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > limit:
            raise ValueError(f"must be at most {limit} bytes long")
        return text

    return AfterValidator(check)


Moment = Annotated[
    date | datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2025-01-31", "2025-01-31T09:00:00Z"]}),
]
Zone = Annotated[str, AfterValidator(_known_zone)]
EventName = Annotated[
    str, Field(min_length=1, max_length=200), AfterValidator(_storable), _at_most_bytes(200)
]
UserId = Annotated[
    str, Field(min_length=1, max_length=256), AfterValidator(_storable), _at_most_bytes(256)
]


class Question(BaseModel):
    """What every question shares: it cannot change, and knows all of its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: ClassVar[str]

    format: Format | None = Field(
        None, description="The form of the answer; the `Accept` header does the same."
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def fingerprint(self, *, without: frozenset[str] = frozenset()) -> str:
        """The same for equal questions, in every process."""
        asked = self.model_dump_json(exclude=set(without))
        return hashlib.sha256(f"{self.name} {asked}".encode()).hexdigest()


class Ranged(Question):
    """A question about a range of time: start <= t < end."""

    start: Moment | None = Field(None, description="The first moment asked about.")
    end: Moment | None = Field(
        None, description="The first moment after the range; without it, the end of today."
    )
    last: Annotated[str, AfterValidator(_well_formed_last)] | None = Field(
        None,
        description="Instead of `start` and `end`: `30d`, `12w` and `6mo` are whole days, weeks "
        "and months of `tz`, the present one included; `24h` counts back from now. "
        "Default: `30d`.",
        examples=["30d"],
    )
    tz: Zone = Field("UTC", description="The IANA time zone of dates, days, weeks and months.")
    week_start: Weekday = Field("monday", description="The day that weeks begin on.")
    event: Annotated[tuple[EventName, ...], Field(max_length=100), AfterValidator(_as_set)] = Field(
        (), description="Only events of this name; may be repeated."
    )

    @property
    def zone(self) -> ZoneInfo:
        return zone(self.tz)

    @property
    def names(self) -> list[str] | None:
        """The event names asked about; None for all."""
        return list(self.event) or None

    def range(self, now: datetime) -> Range:
        """What is asked about when it is asked at this moment. Raises: PydanticCustomError."""
        if self.start is None:
            return self._last(parse_last(self.last or DEFAULT_LAST), now)
        end = local_day(now, self.zone) + _DAY if self.end is None else self.end
        return Range(self._edge(self.start), self._edge(end))

    def _last(self, last: Last, now: datetime) -> Range:
        try:
            asked = last_range(last, now, self.zone, self.week_start)
        except (ValueError, OverflowError):
            raise refuse("last", _YEARS) from None
        if asked.start < EARLIEST:
            raise refuse("last", _YEARS)
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
        if asked.start >= asked.end:
            raise refuse("start", "must be before end, which is the end of today unless given")
        return self


class Bucketed(Ranged):
    """A question whose answer is cut at the hours, days, ... of a zone."""

    def _refuse_many(self, interval: Interval) -> None:
        if too_many_buckets(self.range(datetime.now(UTC)), interval):
            raise refuse(
                "interval",
                f"gives more than {MAX_BUCKETS} buckets over this range; use a longer interval "
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

    @model_validator(mode="after")
    def _has_few_buckets(self) -> Self:
        if self.interval:
            self._refuse_many(self.interval)
        return self


class TopEvents(Ranged):
    """The most frequent event names."""

    limit: int = Field(10, ge=1, le=1000, description="How many names.")


class ActiveUsers(Bucketed):
    """Daily, weekly and monthly active users of each day."""

    window: int | None = Field(
        None, ge=1, le=366, description="Rolling days to count the active users of as well."
    )

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

    user_id: UserId

    def range_or_all(self, now: datetime) -> Range:
        """A history without a range is whole."""
        if self.start is None and self.last is None:
            return Range(EARLIEST, LATEST)
        return self.range(now)
