"""The question `lifecycle` and its answer."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Literal

from pydantic import Field

from common.cells import CellFields
from common.dates import EARLIEST
from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import Completable, ListsUsers
from utils.time.calendar import Range, whole_units
from utils.time.slots import month_number

LifecycleInterval = Literal["day", "week", "month", "quarter", "year"]

STATUSES = ("active", "new", "returning", "resurrected", "dormant")

_LONGEST_DAYS: dict[LifecycleInterval, int] = {
    "day": 1,
    "week": 7,
    "month": 31,
    "quarter": 92,
    "year": 366,
}


@dataclass(frozen=True, slots=True)
class LifecyclePeriod:
    """The users of one period, compared with those of the one before it."""

    day: date
    """The first day of the period, in the zone of the question."""
    start: datetime
    end: datetime
    active: int
    """Users with an event in the period: new + returning + resurrected."""
    new: int
    """Users whose first event of all time is in the period."""
    returning: int
    """Active users who were active in the period before, too."""
    resurrected: int
    """Active users who were active earlier, but not in the period before."""
    dormant: int
    """Users who were active in the period before, and are not in this one."""
    partial: bool
    """Whether the period had not ended when the answer was computed."""


@dataclass(frozen=True, slots=True)
class LifecycleData(Tabular):
    series: list[LifecyclePeriod]

    def table(self) -> Table:
        return LifecyclePeriod, self.series


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleQuery(Query):
    def definition(self, time_range: Range) -> str:
        return (
            f"For each {self.interval} of {self.zone.key} {self.range_text(time_range)}, the "
            f"distinct users with an event{self.criteria}: new if it is their first of all time, "
            f"returning if they have one in the {self.interval} before, else resurrected; and the "
            f"users of the {self.interval} before who have none, as dormant."
        )

    def range_at(self, now: datetime) -> Range:
        # Not `super()`, which dataclasses with slots do not support.
        time_range = Query.range_at(self, now)
        assert self.interval, "the question has one"
        units = whole_units(time_range, self.interval, self.zone, week_start=self.week_start)
        return Range(units[0].start, units[-1].end) if units else time_range


class Lifecycle(ListsUsers, Completable):
    """New, returning, resurrected and dormant users of each period."""

    answer = Answer[LifecycleData]
    cell_fields = CellFields(fields=("start", "status"), required=("start",))

    interval: LifecycleInterval = Field(
        "day",
        description="The length of periods in `tz`. The range is extended to whole periods.",
    )

    @property
    def _look_ahead(self) -> timedelta:
        return timedelta(days=_LONGEST_DAYS[self.interval])

    def _months(self, time_range: Range) -> tuple[int, int] | None:
        months = super()._months(time_range)
        return months and (month_number(EARLIEST), months[1])

    @cached_property
    def query(self) -> LifecycleQuery:
        return LifecycleQuery(**self._resolved(), interval=self.interval)
