"""The question `breakdown` and its answer."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, SkipValidation, WithJsonSchema

from common.cells import CellFields
from common.filters import Condition, Exists, Name
from common.parameters import Integer
from common.property_values import PropertyValue, ValueType, value_type
from common.query import Query
from common.questions.answer import (
    Answer,
    Bucket,
    Table,
    Tabular,
    absent_field,
    is_absent,
)
from common.questions.base import ListsUsers, Periodic
from common.where import MAX_BYTES, FilterError, parse_where
from utils.time.calendar import Range

OTHER = "(other)"


def _dimensions(texts: object) -> tuple[Name, ...]:
    """Return what one or two texts name. Raises: ValueError, reported by pydantic."""
    listed = [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, Sequence) or not 1 <= len(listed) <= 2:
        raise ValueError("must be given once or twice")
    names = tuple(map(_dimension, listed))
    if len(set(names)) < len(names):
        raise ValueError("must name two different properties")
    return names


def _dimension(text: object) -> Name:
    if isinstance(text, Name):
        return text
    with suppress(FilterError):
        where = parse_where([f"{text}:*"])
        if isinstance(where, Condition) and where.test == Exists() and where.name.field != "user":
            return where.name
    raise ValueError(
        "must be @event or the name of a property, such as plan or cart.total; a name with other "
        'characters is quoted, such as "unit price"'
    )


Dimensions = Annotated[
    tuple[SkipValidation[Name], ...],
    BeforeValidator(_dimensions),
    PlainSerializer(lambda names: list(map(str, names)), return_type=list[str]),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "maxLength": MAX_BYTES},
            "minItems": 1,
            "maxItems": 2,
            "examples": [["plan"], ["plan", "country"]],
        }
    ),
]
"""One or two properties, or the name of the event."""


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """The events with one value of each property."""

    values: list[PropertyValue]
    """In the order of `by`; null where the property is missing."""
    events: int
    users: int
    share: float
    """The share of all events in the range and filter, 0 to 1."""
    series: list[Bucket] = field(default_factory=absent_field)


@dataclass(frozen=True, slots=True)
class OtherRows:
    """All rows beyond the limit together."""

    rows: int
    events: int
    users: int
    share: float
    series: list[Bucket] = field(default_factory=absent_field)


@dataclass(frozen=True, slots=True)
class MissingRows:
    """All rows with a null together, whether they are among the rows or in `other`."""

    events: int
    users: int
    share: float


@dataclass(frozen=True, slots=True)
class ValueRow:
    """A row of CSV or NDJSON; with `interval` there is one for each bucket."""

    value: PropertyValue
    """`(other)` for all rows beyond the limit."""
    type: ValueType
    """Tells 5 from the text "5", and `(other)` from such a text."""
    second_value: PropertyValue
    """That of the second property, if there are two."""
    second_type: ValueType
    day: date
    """With `interval`, as the other fields of a bucket; left out for hours."""
    start: datetime
    end: datetime
    events: int
    users: int
    share: float
    """Without `interval`."""
    partial: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class BreakdownData(Tabular):
    by: list[str]
    """The properties."""
    events: int
    users: int
    rows: list[BreakdownRow]
    """Most events first; ties by value: numbers, texts, booleans, missing last."""
    other: OtherRows
    missing: MissingRows

    def table(self) -> Table:
        """Return the rows, the last of which is all others, so that they add up."""
        cells = [list(map(_cell, row.values)) for row in self.rows]
        cells.append([_Cell(OTHER, "other")] * len(self.by))
        rows: list[BreakdownRow | OtherRows] = [*self.rows, self.other]
        return ValueRow, [
            table_row
            for row, values in zip(rows, cells, strict=True)
            for table_row in _table_rows(row, values)
        ]


class _Cell(NamedTuple):
    value: PropertyValue
    type: ValueType


def _cell(value: PropertyValue) -> _Cell:
    return _Cell(value, value_type(value))


def _table_rows(row: BreakdownRow | OtherRows, cells: Sequence[_Cell]) -> Iterator[ValueRow]:
    """Yield a row, or one for each bucket."""
    absent = absent_field()
    first, second = (*cells, _Cell(absent, absent))[:2]
    if is_absent(row.series):
        bucket = Bucket(
            start=absent,
            end=absent,
            events=row.events,
            users=row.users,
            partial=absent,
            cut=absent,
        )
        yield _table_row(first, second, bucket, row.share)
    else:
        for bucket in row.series:
            yield _table_row(first, second, bucket, absent)


def _table_row(first: _Cell, second: _Cell, bucket: Bucket, share: float) -> ValueRow:
    return ValueRow(
        value=first.value,
        type=first.type,
        second_value=second.value,
        second_type=second.type,
        day=bucket.day,
        start=bucket.start,
        end=bucket.end,
        events=bucket.events,
        users=bucket.users,
        share=share,
        partial=bucket.partial,
        cut=bucket.cut,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakdownQuery(Query):
    by: tuple[Name, ...]
    """One or two properties, or `@event`."""
    limit: int
    """The maximum number of rows."""

    def definition(self, time_range: Range) -> str:
        values = " and ".join("event name" if each.field else str(each) for each in self.by)
        series = f", in total and for each {self.interval} of {self.zone.key}"
        return (
            f"The {self.limit} most frequent values of {values} in events{self.criteria} "
            f"{self.range_text(time_range)}, with the number of events that have them and of the "
            f"distinct users who caused these{series if self.interval else ''}; an event with a "
            "list counts for each distinct element."
        )


class Breakdown(ListsUsers, Periodic):
    """Events and users by the values of one or two properties."""

    answer = Answer[BreakdownData]
    has_values = True
    cell_fields = CellFields(fields=("start",), rows=("other", "missing"))

    by: Dimensions = Field(
        description="The property, such as `plan` or `cart.total`, or `@event` for the event name; "
        "given twice, rows are pairs of values. An event with a list counts for each distinct "
        "element."
    )
    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of rows.")

    @property
    def cells(self) -> CellFields:
        cells = replace(self.cell_fields, properties=self.by)
        return cells if self.interval else cells.without("start")

    @cached_property
    def query(self) -> BreakdownQuery:
        return BreakdownQuery(**self._resolved(), by=self.by, limit=self.limit)
