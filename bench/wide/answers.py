"""The answers of the part `wide` as whole numbers, which must be equal in all systems."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

from bench.wide.cases import WideCase

Answer = list[int]
"""The numbers of each row: of each day, value, step or cohort, and of the range."""
_Rows = Sequence[Sequence[Any]]


def from_rows(case: WideCase, rows: _Rows) -> Answer:
    """Return the numbers of rows of SQL."""
    return _flat(case, [tuple(row[case.definition.labels :]) for row in rows])


def from_service(case: WideCase, data: Any) -> Answer:
    """Return the same numbers of an answer of the service."""
    return _flat(case, _READERS[case.definition.name](case, data))


def _counts(case: WideCase, data: Any) -> _Rows:
    rows = [*data.get("series", []), data]
    return [[row[field] for field in case.definition.fields] for row in rows]


def _breakdown(case: WideCase, data: Any) -> _Rows:
    others = [data["other"]] if data["other"]["rows"] else []
    return [(row["events"], row["users"]) for row in (*data["rows"], *others, data)]


def _funnel(case: WideCase, data: Any) -> _Rows:
    if "rows" not in data:
        return [_reached(data)]
    rows = [*sorted(data["rows"], key=lambda row: str(row["value"])), data]
    return [[*_reached(row), *_durations(row)] for row in rows]


def _reached(part: Any) -> list[int]:
    return [step["users"] for step in part["steps"]]


def _durations(part: Any) -> Iterator[Any]:
    """Yield average, median and p90 of each step but the first, and of the funnel."""
    for timed in (*part["steps"][1:], part):
        yield from (timed["seconds"][name] for name in ("avg", "p50", "p90"))


def _retention(case: WideCase, data: Any) -> _Rows:
    """Cells that have not begun are zero, as in SQL."""
    return [
        [cell["users"] if cell else 0 for cell in cohort["cells"]]
        for cohort in data["cohorts"]
        if cohort["users"]
    ]


def _lifecycle(case: WideCase, data: Any) -> _Rows:
    names = ("new", "returning", "resurrected", "dormant")
    return [[day[name] for day in data["series"] for name in names]]


def _stickiness(case: WideCase, data: Any) -> _Rows:
    return [(row["in"], row["users"]) for row in data["rows"] if row["users"]]


_READERS: Mapping[str, Callable[[WideCase, Any], _Rows]] = {
    "event_counts": _counts,
    "numbers": _counts,
    "breakdown": _breakdown,
    "funnel": _funnel,
    "retention": _retention,
    "lifecycle": _lifecycle,
    "stickiness": _stickiness,
}


def _flat(case: WideCase, rows: _Rows) -> Answer:
    units = case.definition.units or (1,)
    whole = [tuple(map(_whole, row, cycle(units))) for row in rows]
    # Each system has another order of values with as many events.
    return [number for row in (sorted(whole) if case.definition.by else whole) for number in row]


def _whole(value: Any, unit: int) -> int:
    """The nearest whole number of a unit; 0 for null, which is `\\N` or `nan` in CSV."""
    number = float(value) if value not in (None, "\\N") else math.nan
    return 0 if math.isnan(number) else round(number * unit)
