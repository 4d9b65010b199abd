"""The question `funnel` and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from common.cells import ROW, CellFields
from common.errors import refuse
from common.filters import Name
from common.parameters import Duration, Integer, Property, Selections, between
from common.property_values import PropertyValue, ValueType, value_type
from common.query import Query
from common.questions.answer import (
    Answer,
    Table,
    Tabular,
    absent_field,
    is_absent,
)
from common.questions.base import ListsUsers, Periodic
from common.selections import Selection
from utils.time.calendar import Range
from utils.time.durations import duration_text

Order = Literal["sequence", "strict", "any"]

MAX_STEPS = 10

_DEFAULT_GAP = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Seconds:
    """Durations in seconds; null if nobody reached the step."""

    avg: float | None
    p50: float | None
    p90: float | None


@dataclass(frozen=True, slots=True)
class Conversion:
    """The number of users who entered, and of those who reached the last step."""

    entered: int
    converted: int
    rate: float | None
    """converted / entered; null if `entered` is 0."""


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """The users who reached a step."""

    step: int
    """1 for the first step."""
    users: int
    of_first: float | None
    """The share of those who reached the first step."""
    of_previous: float | None
    """The share of those who reached the step before; null for the first step."""
    dropped: int
    """Users who reached this step and not the next one, including those of `open`."""
    open: int
    """Users who reached this step and not the next one, and may still reach it."""
    seconds: Seconds | None
    """The time since the step before; null for the first step."""


@dataclass(frozen=True, slots=True)
class FunnelPart:
    """The numbers of some of the users who entered."""

    entered: int
    converted: int
    rate: float | None
    """converted / entered; null if `entered` is 0."""
    open: int
    closed: Conversion
    seconds: Seconds
    steps: list[FunnelStep]


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """The users whose reported chain has one value of the property of `by`."""

    value: PropertyValue
    entered: int
    converted: int
    rate: float | None
    open: int
    closed: Conversion
    seconds: Seconds
    steps: list[FunnelStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelBucket:
    """The users whose reported chain began in one hour, day, ... of the range."""

    day: date = field(default_factory=absent_field)
    """The first day of the bucket, in the zone of the question; left out for hours."""
    start: datetime
    end: datetime
    entered: int
    converted: int
    rate: float | None
    open: int
    users: list[int]
    """The users who reached each step."""
    partial: bool
    """Whether the time for the last step was not over for all entries."""
    cut: bool
    """Whether the range has only a part of the hour, day, ..."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A bucket as a row of CSV or NDJSON; the users of steps are in JSON only."""

    day: date
    start: datetime
    end: datetime
    entered: int
    converted: int
    rate: float | None
    open: int
    partial: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step as a row of CSV or NDJSON; with `by` there is one for each value and step."""

    value: PropertyValue
    """`(other)` for all values beyond the limit."""
    type: ValueType
    """Tells 5 from the text "5", and `(other)` from such a text."""
    step: int
    users: int
    of_first: float | None
    of_previous: float | None
    dropped: int
    open: int
    seconds_avg: float | None
    seconds_p50: float | None
    seconds_p90: float | None


@dataclass(frozen=True, slots=True)
class FunnelData(Tabular):
    entered: int
    converted: int
    rate: float | None
    """converted / entered; null if `entered` is 0."""
    open: int
    """Users who have not reached the last step, and may still reach a further one."""
    closed: Conversion
    """Entered, converted and rate, of entries whose time for the last step is over."""
    seconds: Seconds
    """The time from the first step to the last one."""
    steps: list[FunnelStep]
    rows: list[FunnelRow] = field(default_factory=absent_field)
    """With `by`: the values of most users who entered; ties are numbers, texts, booleans."""
    other: FunnelPart = field(default_factory=absent_field)
    """With `by`: all values beyond the limit."""
    missing: FunnelPart = field(default_factory=absent_field)
    """With `by`: users without a value, and those who did not reach its step."""
    series: list[FunnelBucket] = field(default_factory=absent_field)

    def table(self) -> Table:
        """Return the buckets, or else the steps, with `by` those of each row."""
        if not is_absent(self.series):
            return BucketRow, list(map(_bucket_row, self.series))
        if is_absent(self.rows):
            none = _Cell(absent_field(), absent_field())
            return StepRow, [_step_row(none, step) for step in self.steps]
        rows = [
            *((_cell(row.value), row.steps) for row in self.rows),
            (_OTHER, self.other.steps),
            (_MISSING, self.missing.steps),
        ]
        return StepRow, [_step_row(cell, step) for cell, steps in rows for step in steps]


class _Cell(NamedTuple):
    value: PropertyValue
    type: ValueType


_OTHER, _MISSING = _Cell("(other)", "other"), _Cell(None, "missing")


def _cell(value: PropertyValue) -> _Cell:
    return _Cell(value, value_type(value))


def _step_row(cell: _Cell, step: FunnelStep) -> StepRow:
    seconds = step.seconds or Seconds(None, None, None)
    return StepRow(
        value=cell.value,
        type=cell.type,
        step=step.step,
        users=step.users,
        of_first=step.of_first,
        of_previous=step.of_previous,
        dropped=step.dropped,
        open=step.open,
        seconds_avg=seconds.avg,
        seconds_p50=seconds.p50,
        seconds_p90=seconds.p90,
    )


def _bucket_row(bucket: FunnelBucket) -> BucketRow:
    return BucketRow(*(getattr(bucket, each.name) for each in fields(BucketRow)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelQuery(Query):
    steps: Sequence[Selection]
    within: timedelta
    """The time from the first event of a chain to its last one, at most."""
    order: Order
    exclude: Sequence[Selection]
    """Events that end a chain."""
    ignore: Sequence[Selection]
    """Events that are left out."""
    same: Sequence[Name]
    """The properties whose values must be equal within a chain."""
    gap: timedelta | None
    """The pause after which a session ends; None if users are counted."""
    by: Name | None
    """The property whose values have rows."""
    by_step: int
    """The step whose value it is, from 1."""
    limit: int
    """The maximum number of rows."""

    def definition(self, time_range: Range) -> str:
        counted, owner = ("session", "session") if self.gap else ("user", "user")
        sentences = [
            f"The number of {counted}s with a chain of different events{self.criteria} that match "
            f"{self._steps_text}",
            f"The first event is {self.range_text(time_range)}, and the others are of the same "
            f"{owner} and follow within {duration_text(self.within)}{self._between_text}",
            self._same_text,
            f"An event {_any_of(self.exclude)} between two steps ends a chain"
            if self.exclude
            else "",
            f"A session ends after more than {duration_text(self.gap)} without an event"
            if self.gap
            else "",
            f"Each {counted} counts once, up to the furthest step that any of its chains reaches",
            f"Rows are by the value of `{self.by}` at step {self.by_step}" if self.by else "",
        ]
        return " ".join(f"{sentence}." for sentence in sentences if sentence)

    @property
    def _steps_text(self) -> str:
        if self.order == "any":
            steps = ", ".join(f"`{step}`" for step in self.steps)
            return f"as many different steps as possible in any order: {steps}"
        return f"the steps in order: {', then '.join(f'`{step}`' for step in self.steps)}"

    @property
    def _between_text(self) -> str:
        if self.order == "strict":
            ignored = f", except {_any_of(self.ignore)}" if self.ignore else ""
            return f", each directly after the one before, with no other event between{ignored}"
        return ", whatever is between them"

    @property
    def _same_text(self) -> str:
        names = " and ".join(f"`{name}`" for name in self.same)
        return f"They have the same value of {names}" if names else ""


def _any_of(selections: Sequence[Selection]) -> str:
    return " or ".join(f"`{selection}`" for selection in selections)


class Funnel(ListsUsers, Periodic):
    """The number of users who go through steps, one after the other."""

    answer = Answer[FunnelData]
    has_values = True
    cell_fields = CellFields(
        fields=("step", "start"), counts=("dropped", "open"), rows=("other", "missing")
    )

    step: Selections = Field(
        min_length=2,
        max_length=MAX_STEPS,
        description="The events of a step: event names and a condition, such as `sign_up` or "
        "`purchase plan:pro`; `*` is any event. Repeat it for each step, in their order.",
    )
    within: Annotated[Duration, between("1s", "366d")] = Field(
        "7d",
        validate_default=True,
        description="The time from the first step to the last one, at most: `90s`, `30m`, `24h`, "
        "`7d` or `4w`.",
    )
    order: Order = Field(
        "sequence",
        description="`sequence`: other events may be between steps; `strict`: each step is the "
        "very next event; `any`: steps may come in any order.",
    )
    exclude: Selections = Field(
        (),
        max_length=MAX_STEPS,
        description="Such an event between two steps ends a chain; may be repeated.",
    )
    ignore: Selections = Field(
        (),
        max_length=MAX_STEPS,
        description="Events to leave out with `order=strict`; may be repeated.",
    )
    same: tuple[Property, ...] = Field(
        (),
        max_length=3,
        description="A property whose value must be equal in all events of a chain, such as "
        "`order_id`; up to three.",
    )
    per: Literal["user", "session"] = Field(
        "user", description="Whether users or sessions are counted."
    )
    gap: Annotated[Duration, between("1m", "24h")] | None = Field(
        None,
        description="With `per=session`: a session ends after more than this time without an "
        "event; `30m` by default.",
    )

    by: Property | None = Field(
        None, description="Also count by the value of this property; of a list the first element."
    )
    by_step: Integer = Field(
        1, ge=1, le=MAX_STEPS, description="The step at which `by` takes the value."
    )
    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of rows of `by`.")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.ignore and self.order != "strict":
            raise refuse("ignore", "needs order=strict: otherwise any event may be between steps")
        if self.gap and self.per != "session":
            raise refuse("gap", "needs per=session")
        if self.by_step > len(self.step):
            raise refuse("by_step", "must be one of the steps")
        return self

    @property
    def cells(self) -> CellFields:
        cells = self.cell_fields if self.interval else self.cell_fields.without("start")
        # The answer has the users who are open at any step, but not those dropped at any step.
        is_dropped = self.cell is not None and self.cell.count == "dropped"
        cells = replace(cells, required=("step",) if is_dropped else ())
        return replace(cells, properties=(self.by,)) if self.by else cells.without(ROW)

    @property
    def _look_ahead(self) -> timedelta:
        return self.within

    @cached_property
    def query(self) -> FunnelQuery:
        return FunnelQuery(
            **self._resolved(),
            steps=self.step,
            within=self.within,
            order=self.order,
            exclude=self.exclude,
            ignore=self.ignore,
            same=self.same,
            gap=(self.gap or _DEFAULT_GAP) if self.per == "session" else None,
            by=self.by,
            by_step=self.by_step,
            limit=self.limit,
        )
