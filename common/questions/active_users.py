"""The question `active_users` and its answer."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property

from pydantic import Field

from common.parameters import Integer
from common.query import Query
from common.questions.answer import Answer, Meta, Table, Tabular, absent_field
from common.questions.base import Completable
from utils.time.calendar import Range

_DAY = timedelta(days=1)
_MONTH_DAYS = 32  # the longest month, and a day for the difference of zones


@dataclass(frozen=True, slots=True)
class ActiveDay:
    """Active users of one day: distinct users with an event in each window that ends with it."""

    date: date
    dau: int
    wau: int
    """Users of the rolling 7 days."""
    mau: int
    """Users of the rolling 30 days."""
    stickiness: float | None
    """dau / mau; null if mau is 0."""
    calendar_week: int
    """Users of the calendar week, up to the day."""
    calendar_month: int
    """Users of the calendar month, up to the day."""
    partial: bool
    """Whether the day had not ended when the answer was computed."""
    active: int = field(default_factory=absent_field)
    """Users of the rolling days of the parameter `window`."""


@dataclass(frozen=True, slots=True)
class ActiveUsersData(Tabular):
    series: list[ActiveDay]

    def table(self) -> Table:
        return ActiveDay, self.series


@dataclass(frozen=True, slots=True)
class ActiveUsersMeta(Meta):
    windows: dict[str, str]
    """The window of each count in `series`: rolling days or a calendar unit."""


@dataclass(frozen=True, slots=True)
class ActiveUsersAnswer(Answer[ActiveUsersData]):
    meta: ActiveUsersMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveUsersQuery(Query):
    window: int | None
    """The length in days of the rolling window to count besides those of 1, 7 and 30 days."""

    def definition(self, time_range: Range) -> str:
        return (
            f"For each day of {self.zone.key} {self.range_text(time_range)}, the number of "
            f"distinct users with an event{self.criteria} in each window that ends with the day."
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


class ActiveUsers(Completable):
    """Daily, weekly and monthly active users of each day."""

    answer = ActiveUsersAnswer

    window: Integer | None = Field(
        None, ge=1, le=366, description="Also count the active users of this many rolling days."
    )

    def _look_back(self, time_range: Range) -> timedelta:
        return max(_MONTH_DAYS, self.window or 0) * _DAY

    @cached_property
    def query(self) -> ActiveUsersQuery:
        return ActiveUsersQuery(**self._resolved(), interval="day", window=self.window)
