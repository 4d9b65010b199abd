"""The query: what the engine needs to know of a question or of a background task."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from utils.time.calendar import Weekday


@dataclass(frozen=True, slots=True)
class Query:
    """Event names and calendar of a count. The time ranges are arguments of each call."""

    name: str
    """The name of the question, a label in metrics."""
    zone: ZoneInfo
    """The zone whose local days are read as spans."""
    event_names: list[str] | None = None
    """The event names to count; None for all."""
    months: tuple[int, int] | None = None
    """The first and last UTC month that the answer depends on; None if they move with time."""
    week_start: Weekday = "monday"
    window: int = 1
    """Length in days of the rolling window in addition to those of 1, 7 and 30 days."""
