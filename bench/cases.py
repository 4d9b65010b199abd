"""The queries of the benchmark, and their form for each system: ranges within the 90 days."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlencode

from bench.event_set import END, user_at
from utils.time.calendar import day_start
from utils.time.zones import zone

QUESTIONS = {
    "events_per_day": "events per day",
    "top_events": "top 10",
    "unique_users": "unique users",
    "unique_users_per_day": "unique users per day",
    "active_users": "DAU, WAU, MAU",
    "user_events": "last 50 of a user",
}
EVENTS_PER_SECOND = 5_000
"""Events per second that arrive in one of the cases."""
TIME_ZONES = ("UTC", "Europe/Berlin")
"""The declared time zones of the service."""

_DAY = timedelta(days=1)
_MONTH = 30 * _DAY
_REACH = 29
"""How many days before a day its longest window begins."""
_MAX_DAYS = 34  # with the 29 days before them, they fit into a bit set of 63 bits
_RANK = 2_000  # a user with some hundred events in ten million
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_WINDOWS = {"dau": (29, 1), "wau": (23, 127), "mau": (0, 1073741823)}
_PATHS = {
    "events_per_day": "event-counts",
    "top_events": "top-events",
    "unique_users": "event-counts",
    "unique_users_per_day": "event-counts",
    "active_users": "active-users",
}


@dataclass(frozen=True)
class Case:
    """A range in a time zone; `start` and `end` are local dates or instants."""

    name: str
    tz: str
    start: date | datetime
    end: date | datetime
    arriving: bool = False

    @cached_property
    def edges(self) -> tuple[datetime, datetime]:
        start, end = (self._edge_instant(edge) for edge in (self.start, self.end))
        return start, end

    @cached_property
    def days(self) -> list[date]:
        """The local days that the range overlaps."""
        first, last = (edge.astimezone(zone(self.tz)).date() for edge in self._touched)
        return _dates(first, last)

    @property
    def reached(self) -> list[date]:
        """The days of the range, and the days before it that their rolling windows contain."""
        return _dates(self.days[0] - _REACH * _DAY, self.days[-1])

    @property
    def _touched(self) -> tuple[datetime, datetime]:
        start, end = self.edges
        return start, end - timedelta(microseconds=1)

    def starts_of(self, days: list[date]) -> list[datetime]:
        """The start of each day, and the end of the last one."""
        return [day_start(day, zone(self.tz)) for day in [*days, days[-1] + _DAY]]

    def _edge_instant(self, edge: date | datetime) -> datetime:
        return edge if isinstance(edge, datetime) else day_start(edge, zone(self.tz))


def cases() -> list[Case]:
    """All cases; only the one with arriving events depends on the current date."""
    start, end = (END - _MONTH).date(), END.date()
    odd = timedelta(minutes=7, seconds=13)
    tomorrow = datetime.now(UTC).date() + _DAY
    since = max(start, tomorrow - _MAX_DAYS * _DAY)
    return [
        Case("UTC", "UTC", start, end),
        Case("Europe/Berlin", "Europe/Berlin", start, end),
        Case("Asia/Kolkata", "Asia/Kolkata", start, end),
        Case("UTC, unaligned", "UTC", END - _MONTH + odd, END - 50 * odd),
        Case(
            f"UTC, {EVENTS_PER_SECOND:,} events/s arriving", "UTC", since, tomorrow, arriving=True
        ),
    ]


def address(question: str, case: Case) -> str:
    """The URL path and query string of a query to the service."""
    parameters = {"start": _format_edge(case.start), "end": _format_edge(case.end), "tz": case.tz}
    if question.endswith("_per_day"):
        parameters["interval"] = "day"
    path = _PATHS.get(question, f"users/{example_user()}/events")
    return f"/analytics/{path}?{urlencode(parameters, safe=':/')}"


def example_user() -> str:
    return _USER


def query_texts(file: str) -> Callable[[str, Case], str | None]:
    """A function that returns the SQL of a query from a file, or None if the file lacks it."""
    named = named_texts(file)
    windows = _windows("countIf({})" if file == "chdb" else "count(*) filter (where {})", file)

    def query_text(question: str, case: Case) -> str | None:
        template = named.get(question)
        return template and template.format(**_values(case), windows=windows(case))

    return query_text


def named_texts(file: str) -> dict[str, str]:
    """The queries of a file in bench/sql by their names."""
    text = (Path(__file__).parent / "sql" / f"{file}.sql").read_text()
    _, *parts = _NAME.split(text)
    return {name: query.strip() for name, query in zip(parts[::2], parts[1::2], strict=True)}


def _values(case: Case) -> dict[str, str]:
    start, end = case.edges
    reached = case.starts_of(case.reached)
    cuts = [start, *case.starts_of(case.days)[1:-1], end]
    return {
        "tz": case.tz,
        "user": example_user(),
        "start": _sql_timestamp(start),
        "end": _sql_timestamp(end),
        "day_starts": _sql_list(cuts[:-1]),
        "day_ends": _sql_list(cuts[1:]),
        "reached_start": _sql_timestamp(reached[0]),
        "reached_end": _sql_timestamp(reached[-1]),
        "reached_starts": _sql_list(reached[:-1]),
        "first_reached": str((case.reached[0] - date(1970, 1, 1)).days),
        "shown": str(len(case.days)),
        "day": _day_number(case),
    }


def _day_number(case: Case) -> str:
    """SQL of DuckDB for the local day of an event, with the offset of the zone at its time."""
    starts = case.starts_of(case.reached)
    hours = [starts[0] + n * timedelta(hours=1) for n in range(24 * len(starts))]
    offsets = [_offset(hour, case.tz) for hour in hours]
    shift = str(offsets[-1])
    for hour, before, after in reversed(list(zip(hours[1:], offsets, offsets[1:], strict=False))):
        if before != after:
            shift = (
                f"case when occurred_at < '{_sql_timestamp(hour)}' then {before} else {shift} end"
            )
    return f"(epoch_us(occurred_at) + {shift}) // 86400000000"


def _offset(instant: datetime, tz: str) -> int:
    """The UTC offset of the zone at this instant, in microseconds."""
    offset = instant.astimezone(zone(tz)).utcoffset() or timedelta()
    return int(offset.total_seconds()) * 1_000_000


def _windows(counted: str, file: str) -> Callable[[Case], str]:
    window_condition = (
        "bitAnd(bitShiftRight(days, {}), {}) != 0" if file == "chdb" else "(days >> {} & {}) <> 0"
    )

    def columns(case: Case) -> str:
        return ",\n       ".join(
            f"{counted.format(window_condition.format(day + shift, mask))} as {name}_{day}"
            for day in range(len(case.days))
            for name, (shift, mask) in _WINDOWS.items()
        )

    return columns


def _dates(first: date, last: date) -> list[date]:
    return [first + n * _DAY for n in range((last - first).days + 1)]


def _sql_list(instants: list[datetime]) -> str:
    return ", ".join(f"'{_sql_timestamp(moment)}Z'" for moment in instants)


def _sql_timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _format_edge(edge: date | datetime) -> str:
    return edge.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(edge, datetime) else str(edge)


_USER = user_at(_RANK)
