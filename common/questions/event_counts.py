"""The question `event_counts` and its answer."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from pydantic import Field

from common.parameters import Where
from common.query import Query
from common.questions.answer import Answer, Table, Tabular, absent_field, is_absent
from common.questions.base import FILTERED, Counting
from utils.time.calendar import Interval, Range

# The previous range may be longer than this one, since months, quarters and years differ in length.
_LENGTH_VARIATION = timedelta(days=8)
_MAX_DEFINED_NAMES = 5  # more event names are not listed in a definition


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour, day, ... of a series."""

    start: datetime
    end: datetime
    events: int
    users: int
    partial: bool
    """Whether the bucket had not ended when the answer was computed."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a range without a series, as a row."""

    events: int
    users: int


@dataclass(frozen=True, slots=True)
class Previous:
    """The counts of the previous range."""

    start: datetime
    end: datetime
    events: int
    users: int


@dataclass(frozen=True, slots=True)
class EventCountsData(Tabular):
    events: int
    users: int
    series: list[Bucket] = field(default_factory=absent_field)
    previous: Previous = field(default_factory=absent_field)

    def table(self) -> Table:
        if is_absent(self.series):
            return Counts, [Counts(self.events, self.users)]
        return Bucket, self.series

    def headers(self) -> dict[str, str]:
        """Return the counts of the previous range, if requested."""
        if is_absent(self.previous):
            return {}
        previous = self.previous
        return {"X-Previous-Events": f"{previous.events}", "X-Previous-Users": f"{previous.users}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCountsQuery(Query):
    has_previous: bool
    """Whether to count the previous range as well."""

    def definition(self, time_range: Range) -> str:
        """Return a sentence that says what is counted."""
        start, end = (_instant_text(edge.astimezone(self.zone)) for edge in time_range)
        parts = [
            f"The number of events{self._criteria} from {start} up to but excluding {end}, "
            "and of the distinct users who caused them",
            f"in total and for each {self.interval} of {self.zone.key}" if self.interval else "",
            "and for the previous range" if self.has_previous else "",
        ]
        return f"{', '.join(filter(None, parts))}."

    @property
    def _criteria(self) -> str:
        names = self.event_names or []
        quoted = " or ".join(f'"{name}"' for name in names)
        is_short = len(names) <= _MAX_DEFINED_NAMES
        named = f" named {quoted if is_short else f'as one of {len(names)} names'}" if names else ""
        return named + (f" that match {self.where}" if self.where else "")


def _instant_text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


class EventCounts(Counting):
    """The number of events and of distinct users."""

    answer = Answer[EventCountsData]
    response_headers = ("X-Previous-Events", "X-Previous-Users", "X-Unknown")

    interval: Interval | None = Field(
        None, description="Also count per hour, day or longer unit in `tz`, including zeros."
    )
    compare: Literal["previous"] | None = Field(
        None,
        description="Also count the previous range, cut to the part that has elapsed of this one. "
        "A range of whole years, quarters, months, weeks or days is shifted by these units, any "
        "other by its length.",
    )

    where: Where = Field(
        (),
        description="Count events that match this condition only, such as `plan:pro` or "
        "`amount:>=100`; may be repeated, and all must hold.",
    )

    def _look_back(self, time_range: Range) -> timedelta:
        return (
            time_range.end - time_range.start + _LENGTH_VARIATION if self.compare else timedelta(0)
        )

    @property
    def cache_name(self) -> str:
        return f"{self.name}:{FILTERED}" if self.where else self.name

    @cached_property
    def query(self) -> EventCountsQuery:
        return EventCountsQuery(
            **self._resolved(),
            where=next(iter(self.where), None),
            interval=self.interval,
            has_previous=self.compare is not None,
        )
