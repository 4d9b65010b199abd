"""The question `active_users` and its answer."""

from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

from pydantic import Field

from common.cells import COUNT, CellFields
from common.dates import EARLIEST
from common.parameters import Integer
from common.query import Query
from common.questions.answer import Answer, Meta, Table, Tabular, absent_field
from common.questions.base import Completable, ListsUsers
from utils.time.calendar import Range
from utils.time.slots import month_number


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
    new: int | None = None
    """Users of the day whose first event of all time is on it; null where that needs events that
    were dropped, or more than a question may read."""
    existing: int | None = None
    """All other users of the day; null as `new` is."""


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
            f"distinct users with an event{self.criteria} in each window that ends with the day; "
            "`new` are the users of the day whose first such event of all time is on it, and "
            "`existing` all others."
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


class ActiveUsers(ListsUsers, Completable):
    """Daily, weekly and monthly active users of each day."""

    answer = ActiveUsersAnswer
    cell_fields = CellFields(
        fields=("date",),
        counts=(
            "dau",
            "wau",
            "mau",
            "active",
            "calendar_week",
            "calendar_month",
            "new",
            "existing",
        ),
        required=("date", COUNT),
    )

    window: Integer | None = Field(
        None, ge=1, le=366, description="Also count the active users of this many rolling days."
    )

    @property
    def cells(self) -> CellFields:
        counts = [each for each in self.cell_fields.counts if self.window or each != "active"]
        return replace(self.cell_fields, counts=tuple(counts))

    def _months(self, time_range: Range) -> tuple[int, int] | None:
        months = super()._months(time_range)
        return months and (month_number(EARLIEST), months[1])

    @cached_property
    def query(self) -> ActiveUsersQuery:
        return ActiveUsersQuery(**self._resolved(), interval="day", window=self.window)
