"""What questions share: ranges of time, plans and buckets."""

import hashlib
import re
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
        parameters = self.model_dump_json(exclude=set(without))
        return hashlib.sha256(f"{self.name} {parameters}".encode()).hexdigest()


class Ranged(Question):
    """A question about a range of time: start <= t < end."""

    start: DateOrInstant | None = Field(None, description="The first moment asked about.")
    end: DateOrInstant | None = Field(
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
        time_range = Range(self._edge_instant(self.start), self._edge_instant(self.end))
        return month_number(time_range.start - self._look_back(time_range)), month_number(
            time_range.end
        )

    def _look_back(self, time_range: Range) -> timedelta:
        """How long before the range events matter, at most."""
        return timedelta(0)

    def range(self, now: datetime) -> Range:
        """What is asked about when it is asked at this moment. Raises: PydanticCustomError."""
        if self.start is None:
            return self._last_range(parse_last(self.last or DEFAULT_LAST), now)
        start = self._edge_instant(self.start)
        if self.end is not None:
            return Range(start, self._edge_instant(self.end))
        # A replica may have come no further than a day before the range.
        return Range(start, max(start, self._edge_instant(local_day(now, self.zone) + _DAY)))

    def range_now(self, now: datetime) -> Range:
        """The same for an answer of this moment.

        What was allowed when the question was put may have grown since, and PostgreSQL's clock may
        be another one. Raises: InvalidParameter.
        """
        try:
            time_range = self.range(now)
            self._check_limits(time_range)
        except PydanticCustomError as error:
            fault = Fault(refused_parameter(error.type) or "(query)", error.message())
            raise InvalidParameter(faults=[fault]) from None
        return time_range

    def _check_limits(self, time_range: Range) -> None:
        """Whether the range is within the limits of the question. Raises: PydanticCustomError."""

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
        time_range = self.range(_now())
        self._check_limits(time_range)
        if time_range.start >= time_range.end and not self._is_skipped_day:
            raise refuse("start", "must be before end, which is the end of today unless given")
        return self

    @property
    def _is_skipped_day(self) -> bool:
        """Whether it is about whole days that the zone has not: they are there, and empty."""
        start, end = self.start, self.end
        if isinstance(start, datetime) or isinstance(end, datetime):
            return False
        return start is not None and end is not None and start < end


class Counting(Ranged):
    """A question whose answer is counted, which costs more or less."""

    explain: Boolean = Field(
        False,
        description="Tell the plan instead of the answer: what the question would read, and what "
        "it may. What would read more is refused.",
    )

    @property
    def months(self) -> tuple[int, int] | None:
        """A plan depends on what is not folded yet, whatever the range."""
        return None if self.explain else super().months


class Bucketed(Counting):
    """A question whose answer is cut at the hours, days, ... of a zone."""

    @property
    def series_interval(self) -> Interval | None:
        """The interval of the series; None where there is none."""
        raise NotImplementedError

    def _check_limits(self, time_range: Range) -> None:
        if self.series_interval and too_many_buckets(time_range, self.series_interval):
            raise refuse(
                "interval",
                f"may give more than {MAX_BUCKETS} buckets over this range; use a longer interval "
                "or a shorter range",
            )
