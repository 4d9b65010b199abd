"""The question `property_values` and its answer."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from common.filters import Name
from common.parameters import Property
from common.property_values import PropertyValue, ValueType
from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import Catalogue
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True)
class ValueRow:
    """A value of a property, with all events up to now that have it."""

    value: PropertyValue
    type: ValueType
    events: int
    users: int


@dataclass(frozen=True, slots=True)
class PropertyValuesData(Tabular):
    property: str
    """The name, as `where` writes it."""
    events: int
    """The number of events that have any value."""
    distinct: int | None
    """The number of distinct values that begin with `starts`, also of those beyond the limit; null
    if there are more than 100,000."""
    rows: list[ValueRow]

    def table(self) -> Table:
        return ValueRow, self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyValuesQuery(Query):
    property: Name
    prefix: str
    limit: int

    def definition(self, time_range: Range) -> str:
        named = f' that begin with "{self.prefix}"' if self.prefix else ""
        return (
            f"The {self.limit} most frequent values of {self.property}{named}, with the number of "
            f"events {self.range_text(time_range)} up to now that have them, and of the distinct "
            "users who caused these."
        )


class PropertyValuesParameters(Catalogue):
    """The query string of values, whose property is in the path."""


class PropertyValues(PropertyValuesParameters):
    """The values of a property."""

    answer = Answer[PropertyValuesData]
    response_headers: ClassVar[tuple[str, ...]] = ("X-Unknown",)
    has_values = True
    property: Property

    @cached_property
    def query(self) -> PropertyValuesQuery:
        return PropertyValuesQuery(
            **self._resolved(), property=self.property, prefix=self.starts, limit=self.limit
        )
