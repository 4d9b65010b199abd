"""The question `event_counts` and its answer."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from pydantic import Field

from common.cells import CellFields
from common.query import Query
from common.questions.answer import Answer, Bucket, Table, Tabular, absent_field, is_absent
from common.questions.base import ListsUsers, Periodic
from utils.time.calendar import Range

# The previous range may be longer than this one, since months, quarters and years differ in length.
_LENGTH_VARIATION = timedelta(days=8)


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
    series: list[Bucket] = field(default_factory=absent_field)
    """Its buckets, with `interval`; the first belongs to the first of the range, and so on."""


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
        parts = [
            f"The number of events{self.criteria} {self.range_text(time_range)}, "
            "and of the distinct users who caused them",
            f"in total and for each {self.interval} of {self.zone.key}" if self.interval else "",
            "and for the previous range" if self.has_previous else "",
        ]
        return f"{', '.join(filter(None, parts))}."


class EventCounts(ListsUsers, Periodic):
    """The number of events and of distinct users."""

    answer = Answer[EventCountsData]
    response_headers = (*ListsUsers.response_headers, "X-Previous-Events", "X-Previous-Users")
    cell_fields = CellFields(fields=("start",))

    compare: Literal["previous"] | None = Field(
        None,
        description="Also count the previous range, cut to the part that has elapsed of this one. "
        "A range of whole years, quarters, months, weeks or days is shifted by these units, any "
        "other by its length.",
    )

    @property
    def cells(self) -> CellFields:
        return self.cell_fields if self.interval else self.cell_fields.without("start")

    def _look_back(self, time_range: Range) -> timedelta:
        return (
            time_range.end - time_range.start + _LENGTH_VARIATION if self.compare else timedelta(0)
        )

    @cached_property
    def query(self) -> EventCountsQuery:
        return EventCountsQuery(
            **self._resolved(),
            has_previous=self.compare is not None,
        )
