"""The question `numbers` and its answer."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from common.cells import ROW, CellFields
from common.filters import Name
from common.parameters import Integer, Property
from common.property_values import value_type
from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import ListsUsers, Periodic
from utils.time.calendar import Range

MAX_STATISTICS = 20
DEFAULT_STATISTICS = ("sum", "avg", "min", "max", "p50", "p95")

_PERCENTILE = re.compile(r"p(100|[1-9]?[0-9](?:\.[0-9])?)", re.ASCII)
_PARTS = ("value", "values", "series", "rows", "other", "missing")
_SIMPLE = ("sum", "avg", "min", "max")
_NUMBER = {"type": ["number", "null"]}
_SHARED = {
    "count": {"type": "integer", "description": "The numbers; with `per=user`, the users."},
    "users": {"type": "integer"},
    **dict.fromkeys(DEFAULT_STATISTICS, _NUMBER),
}
_OTHER_PERCENTILES = {_PERCENTILE.pattern.replace("p(", "^p(") + "$": _NUMBER}
_TIME = {"type": "string", "format": "date-time"}
_SKIPPED = {
    "type": "object",
    "description": "Events without a value, and with values that are texts or booleans.",
    "properties": {name: {"type": "integer"} for name in ("missing", "text", "boolean")},
    "required": ["missing", "text", "boolean"],
}
_BUCKET = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "start": _TIME,
        "end": _TIME,
        **_SHARED,
        "skipped": _SKIPPED,
        "partial": {"type": "boolean"},
        "cut": {"type": "boolean"},
    },
    "patternProperties": _OTHER_PERCENTILES,
    "required": ["start", "end", "count", "users", "skipped", "partial", "cut"],
}
_TOTAL = {**_SHARED, "skipped": _SKIPPED, "series": {"type": "array", "items": _BUCKET}}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": _OTHER_PERCENTILES,
        "required": [*required, "count", "users", "skipped"],
    }


_VALUE = {"type": ["string", "number", "boolean", "null"]}
_OTHER = {"type": "integer", "description": "The values that are not among the rows."}
_DATA = _object(
    {
        **_TOTAL,
        "rows": {"type": "array", "items": _object({"value": _VALUE, **_TOTAL}, "value")},
        "other": _object({"values": _OTHER, **_TOTAL}, "values"),
        "missing": _object(_TOTAL),
    }
)


def fraction_of(statistic: str) -> float | None:
    """Return the fraction of a percentile, 0.995 for `p99.5`; None for another statistic."""
    percentile = _PERCENTILE.fullmatch(statistic)
    return float(Decimal(percentile[1]) / 100) if percentile else None


def _statistics(value: object) -> tuple[str, ...]:
    """Return the names of statistics, once each. Raises: ValueError, reported by pydantic."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be texts")
    names = tuple(dict.fromkeys(_canonical(name) for text in texts for name in text.split(",")))
    if len(names) > MAX_STATISTICS:
        raise ValueError(f"at most {MAX_STATISTICS} statistics are allowed")
    return names


def _canonical(name: str) -> str:
    if name in _SIMPLE:
        return name
    if _PERCENTILE.fullmatch(name):
        return name.removesuffix(".0")
    raise ValueError(
        "must be sum, avg, min, max, or percentiles from p0 to p100 with at most one decimal, such "
        "as p50 or p99.5, separated by commas; the answer always has count and users"
    )


Statistics = Annotated[
    tuple[str, ...],
    BeforeValidator(_statistics),
    WithJsonSchema(
        {"type": "array", "items": {"type": "string"}, "examples": [["sum", "p50", "p99.5"]]}
    ),
]
"""Names of statistics, each once, in the order of the request."""


class NumbersData(dict[str, Any], Tabular):
    """The fields `count` and `users`, one for each statistic, `skipped`, and perhaps `series`.

    With `by` also `rows`, each with a `value` and these fields, and `other` and `missing`. Sums and
    extremes are `msgspec.Raw`, since they are exact.
    """

    def table(self) -> Table:
        """Return the total or the values, the last of which is all others, or their buckets."""
        rows = [
            {**value, **_flat(bucket)}
            for value, part in self._parts()
            for bucket in part.get("series", [part])
        ]
        columns = list(rows[0]) if rows else ["start", "end", *_flat(self), "partial", "cut"]
        return columns, rows

    def _parts(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield the parts of a table, each with the columns for its value."""
        if "rows" not in self:
            yield {}, self
            return
        for row in self["rows"]:
            yield {"value": row["value"], "type": value_type(row["value"])}, row
        yield {"value": "(other)", "type": "other"}, self["other"]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.any_schema()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return _DATA


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the fields of `skipped` in its place."""
    fields = {name: value for name, value in row.items() if name not in _PARTS}
    return {
        column: each
        for name, value in fields.items()
        for column, each in (value.items() if name == "skipped" else [(name, value)])
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersQuery(Query):
    of: Name
    """The property."""
    statistics: tuple[str, ...]
    is_per_user: bool
    """Whether the numbers are the sums of users."""
    by: Name | None
    """The property whose values have rows."""
    limit: int
    """The maximum number of rows."""

    def definition(self, time_range: Range) -> str:
        numbers = f"all numbers in {self.of}"
        parts = [
            f"Statistics ({', '.join(self.statistics)}) of "
            f"{f'the sums for each user of {numbers}' if self.is_per_user else numbers}, for events"
            f"{self.criteria} {self.range_text(time_range)}",
            f"in total and for each {self.interval} of {self.zone.key}" if self.interval else "",
            f"and for the {self.limit} most frequent values of {self.by}" if self.by else "",
        ]
        return f"{', '.join(filter(None, parts))}."


class Numbers(ListsUsers, Periodic):
    """Statistics of a numeric property."""

    answer = Answer[NumbersData]
    has_values = True
    cell_fields = CellFields(fields=("start",), rows=("other", "missing"))

    of: Property = Field(
        description="The property, such as `amount` or `cart.total`. Of a list, every number "
        "counts; texts and booleans are skipped.",
    )
    stat: Statistics = Field(
        DEFAULT_STATISTICS,
        description="Any of `sum`, `avg`, `min`, `max`, and percentiles such as `p50` and `p99.5`, "
        "separated by commas.",
    )
    per: Literal["event", "user"] = Field(
        "event",
        description="`user`: first add up the numbers of each user. Events without a user are left "
        "out then.",
    )

    by: Property | None = Field(
        None,
        description="Also compute them for each value of this property; of a list, for each "
        "distinct element.",
    )
    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of rows of `by`.")

    @property
    def cells(self) -> CellFields:
        cells = self.cell_fields if self.interval else self.cell_fields.without("start")
        return replace(cells, properties=(self.by,)) if self.by else cells.without(ROW)

    @cached_property
    def query(self) -> NumbersQuery:
        return NumbersQuery(
            **self._resolved(),
            of=self.of,
            statistics=self.stat,
            is_per_user=self.per == "user",
            by=self.by,
            limit=self.limit,
        )
