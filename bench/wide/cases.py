"""The queries of the part `wide`: events by filters on properties, each with its own parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import cycle
from random import Random
from typing import Any
from urllib.parse import urlencode

from bench.cases import named_texts
from bench.event_set import COUNTRIES, DAYS, END, PLANS, PLATFORMS, START

QUESTIONS = {
    "filtered_events": "two filters, events",
    "filtered_users": "two filters, events and users",
    "filtered_per_day": "two filters by day, with totals",
    "wide_users": "one wide filter, events and users",
    "by_country": "by 10 values, events and users",
    "by_path": "top 10 of 2,000 values, and all others",
    "by_pair": "top 10 of 6,000 pairs of values, and all others",
    "funnel_common": "three common steps in 7 days",
    "funnel_rare": "three rarer steps in 7 days",
}
BREAKDOWNS = {"by_country": ("country",), "by_path": ("path",), "by_pair": ("plan", "path")}
"""The properties of the questions without a filter."""
FUNNELS = {
    "funnel_common": ("page_view", "search", "product_view"),
    "funnel_rare": ("add_to_cart", "checkout_started", "purchase"),
}
"""The steps of the questions about users, half and a seventh of all events."""
WITHIN = timedelta(days=7)
RANGE_DAYS = 30

_RANGES = DAYS - RANGE_DAYS + 1  # has no divisor in common with the numbers of filters
_SEED = 7


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter, for the service and for the others."""

    where: str
    sql: str
    """On columns of their own."""
    jsonb: str
    """On PostgreSQL's column of properties."""


@dataclass(frozen=True, slots=True)
class WideCase:
    """A question with one range of whole UTC days and one filter."""

    question: str
    start: date
    end: date
    condition: Condition

    @property
    def address(self) -> str:
        """The URL path and query string of the query to the service."""
        path = self.question_name.replace("_", "-")
        return f"/analytics/{path}?{urlencode(self.parameters, doseq=True, safe=':/')}"

    @property
    def question_name(self) -> str:
        """The name of the question of the service."""
        return "breakdown" if self.by else "funnel" if self.steps else "event_counts"

    @property
    def by(self) -> tuple[str, ...]:
        """The properties of a breakdown."""
        return BREAKDOWNS.get(self.question, ())

    @property
    def steps(self) -> tuple[str, ...]:
        """The event names of the steps of a funnel."""
        return FUNNELS.get(self.question, ())

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the query to the service."""
        shared = {"start": str(self.start), "end": str(self.end)}
        if self.by:
            return {**shared, "by": list(self.by)}
        if self.steps:
            return {**shared, "step": list(self.steps), "within": f"{WITHIN.days}d"}
        series = {"interval": "day"} if self.question == "filtered_per_day" else {}
        return {**shared, "where": [self.condition.where], **series}


def wide_cases(question: str) -> Iterator[WideCase]:
    """Yield cases of a question without end, each with another range and filter than the last.

    The same pair of a range and a filter comes back after hundreds of others, or the range of a
    breakdown or a funnel after 60 others.
    """
    conditions = _wide() if question == "wide_users" else _narrow()
    if question in BREAKDOWNS or question in FUNNELS:
        conditions = [_EVERYTHING]
    starts = [START + timedelta(days=day) for day in range(_RANGES)]
    random = Random(f"{_SEED} {question}")
    random.shuffle(starts)
    random.shuffle(conditions)
    for start, condition in zip(cycle(starts), cycle(conditions), strict=False):
        end = start + timedelta(days=RANGE_DAYS)
        yield WideCase(question, start.date(), end.date(), condition)


def whole_cases() -> Iterator[WideCase]:
    """Yield a case of each question that reads all days, and the columns of all questions."""
    columns = _both(_is("plan", "free"), _is("country", "DE"))
    columns = _both(columns, _is("platform", "web"))
    for question in QUESTIONS:
        yield WideCase(question, START.date(), END.date(), columns)


def wide_query_texts(file: str, timestamp_suffix: str = "") -> Callable[[WideCase], str]:
    """A function that returns the SQL of a case from a file."""
    named = named_texts(file)

    def query_text(case: WideCase) -> str:
        condition = case.condition
        jsonb = [f"properties->>'{name}' as {name}" for name in case.by]
        name = "breakdown" if case.by else "funnel" if case.steps else case.question
        return named[name].format(
            start=_sql_timestamp(case.start) + timestamp_suffix,
            end=_sql_timestamp(case.end) + timestamp_suffix,
            filter=condition.jsonb if "postgresql" in file else condition.sql,
            by=", ".join(case.by),
            jsonb=", ".join(jsonb),
            followed=_sql_timestamp(case.end + WITHIN) + timestamp_suffix,
            steps=case.steps,
        )

    return query_text


_EVERYTHING = Condition("", "true", "true")


def _narrow() -> list[Condition]:
    """Two properties with one value each: 3 % of all events."""
    return [_both(_is("plan", plan), _is("country", x)) for plan in PLANS for x in COUNTRIES]


def _wide() -> list[Condition]:
    """All values of a property but one: 65 to 90 % of all events."""
    plans = [_is_not("plan", plan) for plan in PLANS]
    return plans + [_is_not("platform", platform) for platform in PLATFORMS]


def _is(name: str, value: str) -> Condition:
    return Condition(f"{name}:{value}", f"{name} = '{value}'", f"properties->>'{name}' = '{value}'")


def _is_not(name: str, value: str) -> Condition:
    # All events of the set have these properties, so `<>` need not consider missing values.
    return Condition(
        f"-{name}:{value}", f"{name} <> '{value}'", f"properties->>'{name}' <> '{value}'"
    )


def _both(first: Condition, second: Condition) -> Condition:
    return Condition(
        f"{first.where} {second.where}",
        f"{first.sql} and {second.sql}",
        f"{first.jsonb} and {second.jsonb}",
    )


def _sql_timestamp(day: date) -> str:
    return datetime.combine(day, time(), UTC).strftime("%Y-%m-%d %H:%M:%S")
