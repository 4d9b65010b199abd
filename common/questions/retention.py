"""The question `retention` and its answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from common.cells import ROW, CellFields
from common.dates import EARLIEST
from common.errors import Fault, InvalidParameter, refuse
from common.filters import Name
from common.parameters import Integer, Property, SelectionText
from common.property_values import PropertyValue, ValueType, value_type
from common.query import Query
from common.questions.answer import (
    Answer,
    Table,
    Tabular,
    absent_field,
    is_absent,
)
from common.questions.base import Completable, ListsUsers
from common.selections import Selection
from utils.time.calendar import Range
from utils.time.slots import month_number

RetentionInterval = Literal["day", "week", "month"]
Entry = Literal["first_ever", "first_in_range", "each"]
ReturnCount = Literal["on", "on_or_after"]
Clock = Literal["calendar", "24h"]

MAX_CELLS = 100_000

_DAYS: dict[RetentionInterval, int] = {"day": 1, "week": 7, "month": 31}
_SHORTEST_DAYS: dict[RetentionInterval, int] = {"day": 1, "week": 7, "month": 28}
_DAY = timedelta(days=1)
# Between the end of a range and that of its last period, and for days of 25 hours.
_MARGIN = timedelta(days=32)


@dataclass(frozen=True, slots=True)
class Cell:
    """The users of a cohort who were present in one period."""

    users: int
    of: int
    """The users who could have been: the whole cohort, or with `clock=24h` those whose period has
    ended."""
    share: float | None
    """users / of; null if `of` is 0."""
    partial: bool
    """Whether the period had not ended when the answer was computed."""
    open_ended: bool = field(default_factory=absent_field)
    """With `count=on_or_after`: later events may still raise the number."""


@dataclass(frozen=True, slots=True)
class TotalCell:
    """The cells of one column, over the cohorts for which its period has ended."""

    users: int
    of: int
    share: float | None
    """users / of; null if `of` is 0."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """The users who entered in one period."""

    day: date
    """The first day of the period, in the zone of the question."""
    start: datetime
    end: datetime
    cut: bool
    """Whether the range has only a part of the period."""
    users: int
    cells: list[Cell | None]
    """By period from the one of the entry; null for periods that have not begun."""


@dataclass(frozen=True, slots=True)
class RetentionPart:
    """The cohorts of some of the users."""

    users: int
    """The users of all cohorts; with `entry=each` a user counts in each."""
    cohorts: list[Cohort]
    total: list[TotalCell]


@dataclass(frozen=True, slots=True)
class RetentionRow:
    """The cohorts of the users whose entry has one value of the property of `by`."""

    value: PropertyValue
    users: int
    cohorts: list[Cohort]
    total: list[TotalCell]


@dataclass(frozen=True, slots=True)
class CellRow:
    """A cell as a row of CSV or NDJSON."""

    value: PropertyValue
    """With `by`; `(other)` for all values beyond the limit."""
    type: ValueType
    """Tells 5 from the text "5", and `(other)` from such a text."""
    day: date
    """The first day of the cohort's period."""
    start: datetime
    end: datetime
    cut: bool
    cohort_users: int
    period: int
    """From 0, the period of the entry."""
    users: int
    of: int
    share: float | None
    partial: bool


@dataclass(frozen=True, slots=True)
class RetentionData(Tabular):
    cohorts: list[Cohort]
    total: list[TotalCell]
    """By period."""

    rows: list[RetentionRow] = field(default_factory=absent_field)
    """With `by`: the values of most users; ties are numbers, texts, booleans."""
    other: RetentionPart = field(default_factory=absent_field)
    """With `by`: all values beyond the limit."""
    missing: RetentionPart = field(default_factory=absent_field)
    """With `by`: users whose entry has no value."""

    def table(self) -> Table:
        """Return the cells that have begun, with `by` those of each row."""
        if is_absent(self.rows):
            absent = absent_field()
            return CellRow, list(_cell_rows(absent, absent, self.cohorts))
        return CellRow, [
            *(each for row in self.rows for each in _cell_rows(*_typed(row.value), row.cohorts)),
            *_cell_rows("(other)", "other", self.other.cohorts),
            *_cell_rows(None, "missing", self.missing.cohorts),
        ]


def _typed(value: PropertyValue) -> tuple[PropertyValue, ValueType]:
    return value, value_type(value)


def _cell_rows(
    value: PropertyValue, kind: ValueType, cohorts: Sequence[Cohort]
) -> Iterator[CellRow]:
    for cohort in cohorts:
        for period, cell in enumerate(cohort.cells):
            if cell:
                yield CellRow(
                    *(value, kind, cohort.day, cohort.start, cohort.end, cohort.cut),
                    *(cohort.users, period, cell.users, cell.of, cell.share, cell.partial),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionQuery(Query):
    entry_events: Selection
    """The events with which users enter."""
    return_events: Selection
    """The events with which they return."""
    periods: int
    """The number of cells of a cohort."""
    entry: Entry
    count: ReturnCount
    clock: Clock
    by: Name | None
    """The property of the entry whose values have rows."""
    limit: int
    """The maximum number of rows."""

    def definition(self, time_range: Range) -> str:
        event = f"event{self.criteria}{_selection_text(self.entry_events)}"
        unit = f"{self.interval} of {self.zone.key}"
        entries = {
            "first_ever": f"the {unit} of their first {event} of all time",
            "first_in_range": f"the {unit} of their first {event} in the range",
            "each": f"each {unit} in which they have an {event}",
        }
        return (
            f"Users by {entries[self.entry]}, if that is {self.range_text(time_range)}, and how "
            f"many of them have {self._return_text} {self._period_text}."
            f"{f' Rows are by the value of `{self.by}` in the entry.' if self.by else ''}"
        )

    @property
    def _return_text(self) -> str:
        other = "another event" if self.clock == "24h" else "an event"
        return f"{other}{self.criteria}{_selection_text(self.return_events)}"

    @property
    def _period_text(self) -> str:
        later = " or later" if self.count == "on_or_after" else ""
        more = self.periods - 1
        if self.clock == "calendar":
            return f"in that {self.interval}{later}, or in one of the {more} that follow{later}"
        hours = self.window_hours
        return (
            f"within {hours} hours from then{later}, or in one of the {more} periods of {hours} "
            f"hours that follow{later}"
        )

    @property
    def window_hours(self) -> int:
        """The length of a period with the clock `24h`."""
        return 24 * 7 if self.interval == "week" else 24

    def range_at(self, now: datetime) -> Range:
        # Not `super()`, which dataclasses with slots do not support.
        time_range = Query.range_at(self, now)
        assert self.interval in _SHORTEST_DAYS, "the question has checked it"
        cohorts = (time_range.end - time_range.start) // (_SHORTEST_DAYS[self.interval] * _DAY) + 2
        rows = self.limit + 3 if self.by else 1
        if cohorts * self.periods * rows > MAX_CELLS:
            message = (
                f"may give more than {MAX_CELLS} cells over this range; use fewer periods, a "
                f"longer interval{', a lower limit' if self.by else ''} or a shorter range"
            )
            raise InvalidParameter(faults=[Fault("periods", message)])
        return time_range


def _selection_text(selection: Selection) -> str:
    text = str(selection)
    return "" if text == "*" else f" of the selection `{text}`"


class Retention(ListsUsers, Completable):
    """The number of users who come back in the periods after the one in which they entered."""

    answer = Answer[RetentionData]
    has_values = True
    cell_fields = CellFields(fields=("cohort", "period"), rows=("other", "missing"))

    from_: SelectionText = Field(
        "*",
        alias="from",
        validate_default=True,
        description="The events with which users enter: event names and a condition, such as "
        "`sign_up` or `purchase plan:pro`; `*` is any event.",
    )
    to: SelectionText = Field(
        "*", validate_default=True, description="The events with which users return."
    )
    interval: RetentionInterval = Field(
        "day", description="The length of periods; they are those of `tz` and `week_start`."
    )
    periods: Integer = Field(
        8, ge=1, le=366, description="The number of periods, from the one of the entry."
    )
    entry: Entry = Field(
        "first_ever",
        description="When users enter: with their first event of all time if it is in the range, "
        "with their first event in the range, or in each period in which they have one.",
    )
    count: ReturnCount = Field(
        "on",
        description="Count users who are present in a period, or in it or any later one up to now.",
    )
    clock: Clock = Field(
        "calendar",
        description="Whether periods are days, weeks and months of the calendar, or days or weeks "
        "of 24 hours that begin with the entry of each user; then the entry itself is not counted.",
    )

    by: Property | None = Field(
        None,
        description="Also count by the value of this property in the entry; of a list the first "
        "element.",
    )
    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of rows of `by`.")

    @model_validator(mode="after")
    def _check_clock(self) -> Self:
        if self.clock == "24h" and self.interval == "month":
            raise refuse("interval", "must be day or week with clock=24h")
        return self

    @property
    def cells(self) -> CellFields:
        # A user may be in several cohorts, and a period without a cohort is a sum over cohorts.
        has_period = self.cell is not None and "period" in self.cell.fields
        required = ("cohort",) if has_period or self.entry == "each" else ()
        cells = replace(self.cell_fields, required=required)
        return replace(cells, properties=(self.by,)) if self.by else cells.without(ROW)

    @property
    def _look_ahead(self) -> timedelta:
        return self.periods * _DAYS[self.interval] * _DAY + _MARGIN

    def _months(self, time_range: Range) -> tuple[int, int] | None:
        if self.count == "on_or_after":  # depends on all events up to now
            return None
        months = super()._months(time_range)
        if months is None or self.entry != "first_ever":
            return months
        return month_number(EARLIEST), months[1]

    @cached_property
    def query(self) -> RetentionQuery:
        return RetentionQuery(
            **self._resolved(),
            interval=self.interval,
            entry_events=self.from_,
            return_events=self.to,
            periods=self.periods,
            entry=self.entry,
            count=self.count,
            clock=self.clock,
            by=self.by,
            limit=self.limit,
        )
