"""What the counting code needs to know of a question, whoever asks it."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from utils.time.calendar import Weekday


@dataclass(frozen=True, slots=True)
class Query:
    """Ranges of time are given with each call: a query says what of them is counted."""

    name: str
    """The label in metrics."""
    zone: ZoneInfo
    """Its days are the coarsest that help, besides those of UTC."""
    event_names: list[str] | None = None
    """None counts all."""
    months: tuple[int, int] | None = None
    """The first and last month of UTC that the answer depends on; None where they move."""
    week_start: Weekday = "monday"
    window: int = 1
    """Days of the rolling window that is counted beside those of 1, 7 and 30."""
