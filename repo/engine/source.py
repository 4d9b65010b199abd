"""Where counts come from: the events themselves, or rollups. Both give the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

from repo.engine.cost import Cost
from utils.time.calendar import Range


class Count(NamedTuple):
    """Events, and the different users who caused them."""

    events: int
    users: int


NO_COUNT = Count(0, 0)


@dataclass(frozen=True, slots=True)
class CountSeries:
    """Ranges that follow each other: all of them together, and each."""

    total: Count
    counts: list[Count]


@dataclass(frozen=True, slots=True)
class Top:
    """The most frequent names, and how many there are besides."""

    total: Count
    rows: list[tuple[str, Count]]
    other_names: int
    other: Count


class Source(Protocol):
    """Counts of events that have occurred; ranges in the future hold none."""

    @property
    def cache_version(self) -> str | None:
        """Of the months that the question depends on; None where late events are not watched."""
        ...

    @property
    def kind(self) -> str:
        """`rollups` or `events`."""
        ...

    def cost(self, ranges: Sequence[Range], *, by_name: bool) -> Cost:
        """What counting these would read; `each` event name by itself."""
        ...

    def active_cost(self, ranges: Sequence[Range]) -> Cost:
        """What counting active users of these days would read, and join for the windows."""
        ...

    @property
    def allowed_events(self) -> int:
        """Events that a question may read one by one, besides those not folded yet."""
        ...

    @property
    def horizon(self) -> datetime | None:
        """Before which events are dropped; None where none is."""
        ...

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        """Whether counting these needs events that are dropped, and raises EventsDropped."""
        ...

    def tail(self) -> int:
        """Events that are not folded yet, up to 10,000."""
        ...

    def counts(self, ranges: Sequence[Range]) -> CountSeries:
        """Ranges stand in order and touch."""
        ...

    def top(self, time_range: Range, limit: int) -> Top:
        """The most events first; those that tie stand in the order of their names."""
        ...

    def active(self, days: Sequence[date], ranges: Sequence[Range]) -> Mapping[str, list[int]]:
        """For each window, the users who are active in the one that ends with each day.

        `ranges` are what is over of the days.
        """
        ...
