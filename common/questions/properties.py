"""The question `properties` and its answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import Catalogue
from utils.time.calendar import Range

PropertyType = Literal["text", "number", "boolean"]

_COLUMNS = (
    "property",
    "events",
    "users",
    "first_seen",
    "last_seen",
    "text",
    "number",
    "boolean",
    "distinct",
)


@dataclass(frozen=True, slots=True)
class PropertyRow:
    """A property, with all events up to now that have a value of it."""

    property: str
    """The name, as `where` writes it."""
    events: int
    users: int
    first_seen: datetime | None
    """Null if there were no events at `meta.counted_at`."""
    last_seen: datetime | None
    types: dict[PropertyType, int]
    """The number of events with values of each type; an event with a list may have several."""
    distinct: int | None
    """The number of distinct values; null if there are more than 100,000."""


@dataclass(frozen=True, slots=True)
class PropertiesData(Tabular):
    properties: int
    """The number of properties, also of those beyond the limit."""
    rows: list[PropertyRow]

    def table(self) -> Table:
        return _COLUMNS, [_columns(row) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertiesQuery(Query):
    prefix: str
    limit: int

    def definition(self, time_range: Range) -> str:
        named = f" whose names begin with {self.prefix}" if self.prefix else ""
        return (
            f"The {self.limit} most frequent properties{named}, with the number of events "
            f"{self.range_text(time_range)} up to now that have a value, of the distinct users who "
            "caused them, and of distinct values."
        )


class Properties(Catalogue):
    """The properties of events."""

    answer = Answer[PropertiesData]

    @cached_property
    def query(self) -> PropertiesQuery:
        return PropertiesQuery(**self._resolved(), prefix=self.starts, limit=self.limit)


def _columns(row: PropertyRow) -> Mapping[str, object]:
    """Return a row for CSV and NDJSON, with a column for each type."""
    own = {name: getattr(row, name, None) for name in _COLUMNS}
    return own | dict(row.types.items())
