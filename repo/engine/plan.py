"""Plans: what a source would read to aggregate events, as values to print and to check."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from common.errors import EventsDropped
from common.filters import Filter
from common.user_criteria import UserCriterion
from repo.engine.cost import Cost
from repo.engine.planner import Cover
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True)
class Group:
    """Aggregate each event name by itself."""

    limit: int | None = None
    """The number of groups, those with the most events first; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """Which events to aggregate, and into which partial aggregates."""

    question: str
    """The name of the question, a label in metrics."""
    ranges: list[Range]
    """Ranges in order that do not overlap; there are partial aggregates for each."""
    zone: ZoneInfo
    """The zone whose local days are read as spans."""
    event_names: list[str] | None = None
    """The event names to count; None for all."""
    group: Group | None = None
    """None: all events of a range are one group."""
    where: Filter | None = None
    """The condition on events to count; None for all."""
    users: tuple[UserCriterion, ...] = ()
    """The criteria of the users whose events count; without any, all events do."""
    window_days: int = 0
    """The length in days of the longest rolling window that is counted from the sets of users; 0
    without windows. Each range is a day then."""
    alternatives: str = "`start={horizon}` or later"
    """Questions that can be asked where a filter needs dropped events, for the error of it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a source reads events, and at what cost."""

    source: str
    """`rollups`, `columns` or `events`."""
    cost: Cost | None
    """None where the plan is surely within the limits, so that its cost was not looked up."""
    allowed_events: int
    """How many events the source may read one by one, in addition to the tail."""
    tail: int = 0
    """The number of events in the tail, up to a limit, where the plan is explained."""
    horizon: datetime | None = None
    """The time before which events were dropped; None if none were."""
    needs_dropped: bool = False
    """Whether the plan reads events from before the horizon one by one."""
    alternatives: str = ""
    """Ranges that can be answered, for the error of a plan that needs dropped events."""

    @property
    def weight(self) -> int:
        """How much the plan reads, to compare it with the plans of other sources."""
        return self.cost.weight if self.cost else 0

    def check(self) -> None:
        """Compare the plan with the limits. Raises: EventsDropped, TooExpensive."""
        if self.horizon and self.needs_dropped:
            raise EventsDropped(self.horizon, self.alternatives)
        if self.cost:
            self.cost.check(self.allowed_events)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverPlan(Plan):
    """A plan to read rows of rollups, and events one by one."""

    aggregation: Aggregation
    cover: Cover
