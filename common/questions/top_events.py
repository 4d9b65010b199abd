"""The question `top_events` and its answer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field

from common.cells import EVENT_NAME, CellFields
from common.parameters import Integer
from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import ListsUsers
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True)
class TopEvent:
    event_name: str
    events: int
    users: int
    share: float
    """The share of all events in the range and filter, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Other:
    """The totals of all event names beyond the limit."""

    event_names: int
    events: int
    users: int
    share: float


@dataclass(frozen=True, slots=True)
class TopEventRow:
    """A row of CSV or NDJSON."""

    event_name: str
    """The name; `(other)` for all other event names."""
    type: Literal["text", "other"]
    """Tells the other event names from an event of that name."""
    events: int
    users: int
    share: float


@dataclass(frozen=True, slots=True)
class TopEventsData(Tabular):
    events: int
    users: int
    rows: list[TopEvent]
    other: Other

    def table(self) -> Table:
        """Return the rows, the last of which holds the other names, so that the events add up."""
        rows = [
            TopEventRow(row.event_name, "text", row.events, row.users, row.share)
            for row in self.rows
        ]
        if self.other.event_names:
            other = self.other
            rows.append(TopEventRow("(other)", "other", other.events, other.users, other.share))
        return TopEventRow, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TopEventsQuery(Query):
    limit: int
    """The maximum number of event names."""

    def definition(self, time_range: Range) -> str:
        return (
            f"The {self.limit} most frequent names of events{self.criteria} "
            f"{self.range_text(time_range)}, with the number of their events and of the distinct "
            "users who caused them."
        )


class TopEvents(ListsUsers):
    """The most frequent event names."""

    answer = Answer[TopEventsData]
    cell_fields = CellFields(fields=(EVENT_NAME,), rows=("other",))

    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of event names.")

    @cached_property
    def query(self) -> TopEventsQuery:
        return TopEventsQuery(**self._resolved(), limit=self.limit)
