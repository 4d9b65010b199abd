"""The interface of sources of counts, which are the events or the rollups, with equal results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

from repo.engine.cost import Cost
from utils.time.calendar import Range


class Count(NamedTuple):
    """The number of events and of their distinct users."""

    events: int
    users: int


NO_COUNT = Count(0, 0)


@dataclass(frozen=True, slots=True)
class CountSeries:
    """The counts of consecutive ranges, and their total."""

    total: Count
    counts: list[Count]


@dataclass(frozen=True, slots=True)
class Top:
    """The most frequent event names with their counts, and the totals of the others."""

    total: Count
    rows: list[tuple[str, Count]]
    other_names: int
    other: Count


class Source(Protocol):
    """Counts events that have occurred; ranges in the future have none."""

    @property
    def cache_version(self) -> str | None:
        """The cache version of the query's months; None if late events are not tracked."""
        ...

    @property
    def kind(self) -> str:
        """`rollups` or `events`."""
        ...

    def cost(self, ranges: Sequence[Range], *, by_name: bool) -> Cost:
        """Return the cost of counting ranges, with `by_name` each event name by itself."""
        ...

    def active_cost(self, ranges: Sequence[Range]) -> Cost:
        """Return the cost of counting the active users of these days in all windows."""
        ...

    @property
    def allowed_events(self) -> int:
        """How many events a query may read one by one, in addition to the tail."""
        ...

    @property
    def horizon(self) -> datetime | None:
        """The time before which events were dropped; None if none were."""
        ...

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        """Return whether counting these ranges would raise EventsDropped."""
        ...

    def tail(self) -> int:
        """Return the number of events in the tail, up to 10,000."""
        ...

    def counts(self, ranges: Sequence[Range]) -> CountSeries:
        """Return the counts of consecutive ranges. Raises: EventsDropped, TooExpensive."""
        ...

    def top(self, time_range: Range, limit: int) -> Top:
        """Return the most frequent names, ties by name. Raises: EventsDropped, TooExpensive."""
        ...

    def active(self, days: Sequence[date], ranges: Sequence[Range]) -> Mapping[str, list[int]]:
        """Return, by window, the number of active users in the one that ends with each day.

        `ranges` are the parts of the days that have passed. Raises: EventsDropped, TooExpensive.
        """
        ...
