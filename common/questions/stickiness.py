"""The question `stickiness` and its answer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import Field, WithJsonSchema

from common.cells import CellFields
from common.parameters import Integer
from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import Completable, ListsUsers
from utils.time.calendar import Interval, Range

_COLUMNS = ("in", "users", "at_least")
# A mapping, since `in` is a keyword of Python, which dataclasses cannot have as a field.
StickinessRow = Annotated[
    dict[str, int],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {name: {"type": "integer"} for name in _COLUMNS},
            "required": [*_COLUMNS],
        }
    ),
]
"""The users who were active in so many periods, and those in so many or more."""


@dataclass(frozen=True, slots=True)
class StickinessData(Tabular):
    periods: int
    """The periods that have begun."""
    partial_periods: int
    """Periods that have not ended, or of which the range has only a part."""
    users: int
    """Users who were active in at least one period."""
    rows: list[StickinessRow]
    """By number of periods, from 1."""

    def table(self) -> Table:
        return _COLUMNS, self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StickinessQuery(Query):
    min_events: int
    """The number of events in a period that make a user active in it."""

    def definition(self, time_range: Range) -> str:
        at_least = f"at least {self.min_events} events" if self.min_events > 1 else "an event"
        return (
            f"Users by the number of {self.interval}s of {self.zone.key} "
            f"{self.range_text(time_range)} in which they have {at_least}{self.criteria}."
        )


class Stickiness(ListsUsers, Completable):
    """In how many periods of a range users were active."""

    answer = Answer[StickinessData]
    cell_fields = CellFields(fields=("in",), counts=("at_least",))

    interval: Interval = Field("day", description="The length of periods in `tz`.")
    min: Integer = Field(
        1,
        ge=1,
        le=255,
        description="The number of events in a period that make a user active in it, at least.",
    )

    @cached_property
    def query(self) -> StickinessQuery:
        return StickinessQuery(**self._resolved(), interval=self.interval, min_events=self.min)
