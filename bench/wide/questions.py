"""The questions of the part `wide`: what the service is asked, and what of its answers counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

from bench.event_set import START

PERIODS = 30
"""The days of a cohort by day."""
WEEKS = 8
"""The weeks of a cohort by week."""
WITHIN = timedelta(days=7)
SECONDS = (100, 10**7, 10**7)
"""The units of an average, a median and another percentile of seconds: 10 ms, and 0.1 us, to which
percentiles of whole microseconds are exact."""

_DAY = timedelta(days=1)
_MONDAY = START.date() - START.weekday() * _DAY
_COMMON = ("page_view", "search", "product_view")
_RARE = ("add_to_cart", "checkout_started", "purchase")
_WITHIN = {"within": f"{WITHIN.days}d"}
_USERS_AND_EVENTS = ("events", "users")


@dataclass(frozen=True, slots=True)
class WideQuestion:
    """A question that is asked about many ranges."""

    label: str
    name: str
    """The name of the question of the service."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that all cases have in common."""
    statement: str = ""
    """The name of its SQL, unless it is the name of the question here."""
    filters: Literal["none", "narrow", "wide"] = "none"
    did: tuple[str, str] = ("", "")
    """Event names: users have one of the first, with the filter, and none of the second."""
    fields: tuple[str, ...] = ()
    """The fields that are compared, of those questions whose answers have named fields."""
    units: Sequence[int] = ()
    """The factors that make whole numbers of the columns; without them they are whole."""
    labels: int = 0
    """The columns of the SQL before those that are compared."""
    bits: Literal["none", "day", "week", "lifecycle"] = "none"
    """The unit of the SQL's bits: a user's days or weeks, or the states of `lifecycle`."""

    @property
    def by(self) -> tuple[str, ...]:
        """The properties of a breakdown."""
        return tuple(self.parameters["by"]) if self.name == "breakdown" else ()

    @property
    def steps(self) -> tuple[str, ...]:
        """The event names of the steps of a funnel."""
        return tuple(self.parameters.get("step", ()))

    def until(self, end: date) -> date:
        """The day up to which events are read for a range that ends with a day."""
        if self.steps:
            return end + WITHIN
        if self.bits == "day":
            return end + (PERIODS - 1) * _DAY
        if self.bits == "week":
            return _MONDAY + (week_number(end - _DAY) + WEEKS) * 7 * _DAY
        return end


def week_number(day: date) -> int:
    """The number of a week, from 0 for the one in which the event set begins."""
    return (day - _MONDAY).days // 7


def first_monday() -> date:
    return _MONDAY


QUESTIONS = {
    "filtered_events": WideQuestion(
        "two filters, events", "event_counts", filters="narrow", fields=("events",)
    ),
    "filtered_users": WideQuestion(
        "two filters, events and users",
        "event_counts",
        filters="narrow",
        fields=_USERS_AND_EVENTS,
    ),
    "filtered_per_day": WideQuestion(
        "two filters by day, with totals",
        "event_counts",
        {"interval": "day"},
        filters="narrow",
        fields=_USERS_AND_EVENTS,
        labels=1,
    ),
    "wide_users": WideQuestion(
        "one wide filter, events and users",
        "event_counts",
        filters="wide",
        fields=_USERS_AND_EVENTS,
    ),
    "by_country": WideQuestion(
        "by 10 values, events and users", "breakdown", {"by": ["country"]}, "breakdown"
    ),
    "by_path": WideQuestion(
        "top 10 of 2,000 values, and all others", "breakdown", {"by": ["path"]}, "breakdown"
    ),
    "by_pair": WideQuestion(
        "top 10 of 6,000 pairs of values, and all others",
        "breakdown",
        {"by": ["plan", "path"]},
        "breakdown",
    ),
    "numbers": WideQuestion(
        "sum, median and p95 of a number by day, with totals",
        "numbers",
        {"of": "amount", "stat": "sum,p50,p95", "interval": "day"},
        fields=("count", "sum", "p50", "p95"),
        # Sums of two decimals; p95 of them is exact to a twentieth of the last one.
        units=(1, 100, 10_000, 10_000),
        labels=1,
    ),
    "funnel_common": WideQuestion(
        "three common steps in 7 days", "funnel", {"step": _COMMON, **_WITHIN}, "funnel"
    ),
    "funnel_rare": WideQuestion(
        "three rarer steps in 7 days", "funnel", {"step": _RARE, **_WITHIN}, "funnel"
    ),
    "funnel_times": WideQuestion(
        "the same by 3 values, with times",
        "funnel",
        {"step": _RARE, **_WITHIN, "by": "plan"},
        units=(1, 1, 1, *SECONDS, *SECONDS, *SECONDS),
        labels=1,
    ),
    "retention_day": WideQuestion(
        "retention of 30 days by day, first in range",
        "retention",
        {"interval": "day", "periods": PERIODS, "entry": "first_in_range"},
        labels=1,
        bits="day",
    ),
    "retention_week": WideQuestion(
        "retention of 8 weeks by week, first ever, one wide filter",
        "retention",
        {"interval": "week", "periods": WEEKS},
        filters="wide",
        labels=1,
        bits="week",
    ),
    "lifecycle": WideQuestion("lifecycle by day", "lifecycle", bits="lifecycle"),
    "stickiness": WideQuestion("stickiness by day", "stickiness"),
    "did_not": WideQuestion(
        "users who did one thing, with one wide filter, and not another",
        "event_counts",
        filters="wide",
        did=("product_view", "purchase"),
        fields=("users",),
    ),
}
LABELS = {name: question.label for name, question in QUESTIONS.items()}
