"""Base classes of questions: ranges of time, plans and buckets."""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from common.errors import Fault, InvalidParameter, refuse, refused_parameter
from common.parameters import (
    EARLIEST,
    OUTSIDE_YEARS,
    Boolean,
    DateOrInstant,
    EventNames,
    LastText,
    Parameters,
    Zone,
)
from utils.formats import Format
from utils.time.calendar import (
    MAX_BUCKETS,
    Interval,
    Range,
    Weekday,
    day_start,
    local_day,
    too_many_buckets,
)
from utils.time.ranges import RelativeRange, last_range, parse_last
from utils.time.slots import month_number
from utils.time.zones import zone

DEFAULT_LAST = "30d"

_DAY = timedelta(days=1)


def _now() -> datetime:
    return datetime.now(UTC)


class Question(Parameters):
    """The base class of every question."""

    name: ClassVar[str]
    answer: ClassVar[Any]
    """The type of the answer, for the OpenAPI description."""
    response_headers: ClassVar[tuple[str, ...]] = ()
    """Headers with what has no place in CSV and NDJSON, which scripts in browsers may read."""
    concerns_one_user: ClassVar[bool] = False
    """Whether answers are about one user, so that an erasure drops them from the cache."""

    format: Format | None = Field(
        None, description="The format of the answer, in place of the `Accept` header."
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # EventCounts becomes event_counts: the name in SQL files, metrics and cache keys.
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def months(self) -> tuple[int, int] | None:
        """The first and last UTC month that the answer depends on; None if they move with time."""
        return None

    def fingerprint(self, *, without: Collection[str] = ("format",)) -> str:
        """Return a digest that is equal for questions with the same answer, in every process."""
        # A digest of the validated values rather than `hash()`, which differs between processes.
        parameters = self.model_dump_json(exclude=set(without))
        return hashlib.sha256(f"{self.name} {parameters}".encode()).hexdigest()


class Ranged(Question):
    """A question about a range of time, start <= t < end."""

    start: DateOrInstant | None = Field(None, description="The beginning of the range.")
    end: DateOrInstant | None = Field(
        None, description="The end of the range, exclusive. Default: the end of today."
    )
    last: LastText | None = Field(
        None,
        description="A range that ends now, in place of `start` and `end`: `30d`, `12w` and `6mo` "
        "are whole days, weeks and months in `tz`, including the current one; `24h` counts back "
        "from now. Default: `30d`.",
        examples=["30d"],
    )
    tz: Zone = Field("UTC", description="The IANA time zone of dates, days, weeks and months.")
    week_start: Weekday = Field("monday", description="The first day of the week.")
    event: EventNames = Field((), description="Count events of this name only; may be repeated.")

    @property
    def zone(self) -> ZoneInfo:
        return zone(self.tz)

    @property
    def names(self) -> list[str] | None:
        """The event names of the filter; None for all."""
        return list(self.event) or None

    @property
    def months(self) -> tuple[int, int] | None:
        if self.start is None or self.end is None:
            return None
        time_range = Range(self._edge_instant(self.start), self._edge_instant(self.end))
        # The end is exclusive, but one month too many does no harm: late events in it only cause a
        # cached answer to be computed again.
        return month_number(time_range.start - self._look_back(time_range)), month_number(
            time_range.end
        )

    def _look_back(self, time_range: Range) -> timedelta:
        """Return how long before the range events matter, at most."""
        return timedelta(0)

    def range(self, now: datetime) -> Range:
        """Return the range of the question if it is asked at `now`. Raises: PydanticCustomError."""
        if self.start is None:
            return self._last_range(parse_last(self.last or DEFAULT_LAST), now)
        start = self._edge_instant(self.start)
        if self.end is not None:
            return Range(start, self._edge_instant(self.end))
        # `now` may be before the range: the clock of a replica that is a day behind.
        return Range(start, max(start, self._edge_instant(local_day(now, self.zone) + _DAY)))

    def range_now(self, now: datetime) -> Range:
        """Return the range at `now`, PostgreSQL's clock. Raises: InvalidParameter."""
        # The limits were checked when the request was parsed, but by the service's clock, and the
        # range may have grown since.
        try:
            time_range = self.range(now)
            self._check_limits(time_range)
        except PydanticCustomError as error:
            fault = Fault(refused_parameter(error.type) or "(query)", error.message())
            raise InvalidParameter(faults=[fault]) from None
        return time_range

    def _check_limits(self, time_range: Range) -> None:
        """Check the range against the limits of the question. Raises: PydanticCustomError."""

    def _last_range(self, last: RelativeRange, now: datetime) -> Range:
        try:
            time_range = last_range(last, now, self.zone, self.week_start)
        except (ValueError, OverflowError):
            raise refuse("last", OUTSIDE_YEARS) from None
        if time_range.start < EARLIEST:
            raise refuse("last", OUTSIDE_YEARS)
        return time_range

    def _edge_instant(self, edge: date | datetime) -> datetime:
        return edge if isinstance(edge, datetime) else day_start(edge, self.zone)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.last is not None and (self.start is not None or self.end is not None):
            raise refuse("last", "must not be given together with start or end")
        if self.end is not None and self.start is None:
            raise refuse("start", "must be given together with end")
        # A first check by the service's clock, so that most errors need no connection to the
        # database; `range_now` checks again.
        time_range = self.range(_now())
        self._check_limits(time_range)
        if time_range.start >= time_range.end and not self._is_skipped_day:
            raise refuse("start", "must be before end, which is the end of today by default")
        return self

    @property
    def _is_skipped_day(self) -> bool:
        """Whether the range is whole days that the zone skipped: it is valid, and empty."""
        start, end = self.start, self.end
        if isinstance(start, datetime) or isinstance(end, datetime):
            return False
        return start is not None and end is not None and start < end


class Counting(Ranged):
    """A question whose answer is counted, at a cost that is limited."""

    explain: Boolean = Field(
        False,
        description="Return the plan instead of the answer: what the question would read, and the "
        "limits. A question that exceeds them is refused.",
    )

    @property
    def months(self) -> tuple[int, int] | None:
        """The months of the answer; None for a plan, which depends on the tail as well."""
        return None if self.explain else super().months


class Bucketed(Counting):
    """A question whose answer is cut into hours, days or longer units of a time zone."""

    @property
    @abstractmethod
    def series_interval(self) -> Interval | None:
        """The interval of the series; None without a series."""

    def _check_limits(self, time_range: Range) -> None:
        if self.series_interval and too_many_buckets(time_range, self.series_interval):
            raise refuse(
                "interval",
                f"may give more than {MAX_BUCKETS} buckets over this range; use a longer interval "
                "or a shorter range",
            )
