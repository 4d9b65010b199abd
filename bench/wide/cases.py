"""The queries of the part `wide`: each has its own range, and its own filter if there is one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import cycle
from random import Random
from typing import Any
from urllib.parse import urlencode

from bench.cases import named_texts
from bench.event_set import COUNTRIES, DAYS, PLANS, PLATFORMS, START
from bench.wide.questions import (
    PERIODS,
    QUESTIONS,
    WEEKS,
    WITHIN,
    WideQuestion,
    first_monday,
)

RANGE_DAYS = 30

_RANGE = timedelta(days=RANGE_DAYS)
_RANGES = DAYS - RANGE_DAYS + 1  # has no divisor in common with the numbers of filters
_SEED = 7
_COUNTS = {
    "wide_duckdb": "count(*) filter ({})",
    "wide_postgresql": "count(*) filter (where {})",
    "wide_chdb": "countIf({})",
}
"""How many rows of a table of users fulfil a condition."""


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
    def definition(self) -> WideQuestion:
        return QUESTIONS[self.question]

    @property
    def address(self) -> str:
        """The URL path and query string of the query to the service."""
        path = self.definition.name.replace("_", "-")
        return f"/analytics/{path}?{urlencode(self.parameters, doseq=True, safe=':/')}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the query to the service."""
        shared = {"start": str(self.start), "end": str(self.end)}
        return {**shared, **self.definition.parameters, **self._filter_parameters()}

    def _filter_parameters(self) -> dict[str, list[str]]:
        did, did_not = self.definition.did
        if did:
            return {"did": [f"{did} {self.condition.where}"], "not_did": [did_not]}
        return {"where": [self.condition.where]} if self.definition.filters != "none" else {}


def wide_cases(question: str) -> Iterator[WideCase]:
    """Yield cases of a question without end, each with another range and filter than the last.

    The same pair of a range and a filter comes back after hundreds of others, or the range of a
    question without a filter after 60 others.
    """
    conditions = _CONDITIONS[QUESTIONS[question].filters]()
    starts = [START + timedelta(days=day) for day in range(_RANGES)]
    random = Random(f"{_SEED} {question}")
    random.shuffle(starts)
    random.shuffle(conditions)
    for start, condition in zip(cycle(starts), cycle(conditions), strict=False):
        yield WideCase(question, start.date(), (start + _RANGE).date(), condition)


def warming_cases(question: str) -> Iterator[WideCase]:
    """Yield cases of a question that read all days, and the columns of all filters."""
    columns = _both(_is("plan", "free"), _is("country", "DE"))
    columns = _both(columns, _is("platform", "web"))
    for day in range(0, DAYS, RANGE_DAYS):
        start = START + timedelta(days=day)
        yield WideCase(question, start.date(), (start + _RANGE).date(), columns)


def wide_query_texts(file: str) -> Callable[[WideCase], str]:
    """A function that returns the SQL of a case from a file."""
    named = named_texts(file)
    suffix = "Z" if "postgresql" in file else ""

    def query_text(case: WideCase) -> str:
        question, condition = case.definition, case.condition
        return named[question.statement or case.question].format(
            start=_sql_timestamp(case.start) + suffix,
            end=_sql_timestamp(case.end) + suffix,
            until=_sql_timestamp(question.until(case.end)) + suffix,
            day_before=_sql_timestamp(case.start - timedelta(days=1)) + suffix,
            first_day=case.start,
            first_monday=first_monday(),
            days=(case.end - case.start).days,
            filter=condition.jsonb if "postgresql" in file else condition.sql,
            by=", ".join(question.by),
            jsonb=", ".join(f"properties->>'{name}' as {name}" for name in question.by),
            steps=question.steps,
            within_us=int(WITHIN.total_seconds()) * 1_000_000,
            did=question.did,
            counts=",\n       ".join(_counts(case, file)),
        )

    return query_text


def _counts(case: WideCase, file: str) -> Iterator[str]:
    """Yield the columns that count users by the bits of their days or weeks."""
    conditions: dict[str, Iterator[str]] = {
        "none": iter(()),
        "day": _cells(PERIODS, file),
        "week": _cells(WEEKS, file),
        "lifecycle": _lifecycle((case.end - case.start).days),
    }
    return map(_COUNTS[file].format, conditions[case.definition.bits])


def _cells(periods: int, file: str) -> Iterator[str]:
    """Yield for each period of a cohort the condition that a user was present."""
    for period in range(periods):
        if file == "wide_chdb":
            yield f"bitTest(active, cohort + {period})"
        else:
            yield f"((active >> (cohort + {period})) & 1) = 1"


def _lifecycle(days: int) -> Iterator[str]:
    """Yield for each day the conditions of new, returning, resurrected and dormant users.

    The first bit of `active` is the day before the range. The SQL of DuckDB and chDB has a row for
    each day instead.
    """
    for day in range(days):
        of_two_days = f"((active >> {day}) & 3)"
        yield f"entered = {day}"
        yield f"{of_two_days} = 3"
        yield f"{of_two_days} = 2 and entered < {day}"
        yield f"{of_two_days} = 1"


def _everything() -> list[Condition]:
    return [Condition("", "true", "true")]


def _narrow() -> list[Condition]:
    """Two properties with one value each: 3 % of all events."""
    return [_both(_is("plan", plan), _is("country", x)) for plan in PLANS for x in COUNTRIES]


def _wide() -> list[Condition]:
    """All values of a property but one: 65 to 90 % of all events."""
    plans = [_is_not("plan", plan) for plan in PLANS]
    return plans + [_is_not("platform", platform) for platform in PLATFORMS]


_CONDITIONS = {"none": _everything, "narrow": _narrow, "wide": _wide}


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
