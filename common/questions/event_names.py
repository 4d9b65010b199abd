"""The question `event_names` and its answer."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from common.query import Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import Catalogue
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True)
class EventNameRow:
    """An event name, with all its events up to now."""

    event_name: str
    events: int
    users: int
    first_seen: datetime
    """When its first event occurred; to the quarter of an hour if the event was dropped."""
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class EventNamesData(Tabular):
    event_names: int
    """The number of names, also of those beyond the limit."""
    rows: list[EventNameRow]

    def table(self) -> Table:
        return EventNameRow, self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNamesQuery(Query):
    prefix: str
    limit: int

    def definition(self, time_range: Range) -> str:
        named = f' that begin with "{self.prefix}"' if self.prefix else ""
        return (
            f"The {self.limit} most frequent event names{named}, with the number of their events "
            f"{self.range_text(time_range)} up to now, and of the distinct users who caused them."
        )


class EventNames(Catalogue):
    """All event names."""

    answer = Answer[EventNamesData]

    @cached_property
    def query(self) -> EventNamesQuery:
        return EventNamesQuery(**self._resolved(), prefix=self.starts, limit=self.limit)
