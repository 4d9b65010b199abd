"""Queries: questions whose parameters are resolved, as the repository reads them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from common.cells import Cell
from common.dates import ALL_TIME, EARLIEST, OUTSIDE_YEARS
from common.errors import Fault, InvalidParameter
from common.filters import Filter
from common.user_criteria import UserCriterion, UserFilter
from common.user_pages import UserPage, UserPosition
from utils.time.calendar import (
    MAX_BUCKETS,
    Interval,
    Range,
    Weekday,
    day_start,
    local_day,
    too_many_buckets,
    unit_starts,
)
from utils.time.ranges import RelativeRange, last_range
from utils.time.slots import SETTLED_AFTER

_DAY = timedelta(days=1)
_MAX_DEFINED_NAMES = 5  # more event names are not listed in a definition


@dataclass(frozen=True, slots=True)
class Period:
    """The range of time of a query, parts of which may depend on the current time.

    Either `last` is set, or `start`. Without `end` the period ends with today.
    """

    start: datetime | None = None
    end: datetime | None = None
    last: RelativeRange | None = None

    @property
    def fixed_range(self) -> Range | None:
        """The range if it does not depend on the current time, else None."""
        return Range(self.start, self.end) if self.start and self.end else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question with resolved parameters: its range, calendar and event names."""

    subject: ClassVar[str] = "The events"
    """The beginning of the definition, unless a question has another one."""
    name: str
    """The name of the question, a label in metrics."""
    period: Period
    zone: ZoneInfo
    """The zone of days, weeks and months."""
    week_start: Weekday = "monday"
    event_names: list[str] | None = None
    """The event names to count; None for all."""
    where: Filter | None = None
    """The condition on events to count; None for all."""
    users: UserFilter | None = None
    """The conditions on users whose events count; None for all events."""
    months: tuple[int, int] | None = None
    """The first and last UTC month that the answer depends on; None if they move with time."""
    interval: Interval | None = None
    """The length of the buckets of a series; None without a series."""
    look_ahead: timedelta = timedelta(0)
    """How long after the range events matter, at most."""
    complete: bool = False
    """Whether the range is narrowed to whole periods of `interval` that are over."""
    cell: Cell | None = None
    """The number of the answer whose users are listed; None for the answer itself."""
    page: UserPage | None = None
    """The page of a list of users."""

    def definition(self, time_range: Range) -> str:
        """Return a sentence that says what the answer is about."""
        return f"{self.subject}{self.criteria} {self.range_text(time_range)}."

    def is_over(self, now: datetime) -> bool:
        """Return whether only late events can change the answer."""
        time_range = self._requested_range(now)
        ends = [each.range.end for each in self.user_criteria(time_range, now)]
        return max([time_range.end + self.look_ahead, *ends]) <= now - SETTLED_AFTER

    def user_criteria(self, time_range: Range, now: datetime) -> tuple[UserCriterion, ...]:
        """Return the criteria by which users are chosen. Raises: InvalidParameter."""
        return self.users.criteria(time_range, now) if self.users else ()

    @property
    def reads_properties(self) -> bool:
        """Whether the answer depends on more of events than their time, name and user."""
        return self.where is not None or self.users is not None

    def definition_of_users(self, time_range: Range, now: datetime) -> str:
        """Return a sentence that says which users count, after a space; empty for all events."""
        parts = [
            f"{each} {self.range_text(each.range)}" for each in self.user_criteria(time_range, now)
        ]
        return f" Only events of users count who {' and who '.join(parts)}." if parts else ""

    def meta(self, time_range: Range, now: datetime, source: str) -> dict[str, Any]:
        """Return the fields that the meta of every answer has."""
        start, end, computed_at = (each.astimezone(self.zone) for each in (*time_range, now))
        return {
            "start": start,
            "end": end,
            "tz": self.zone.key,
            "computed_at": computed_at,
            "complete_until": min(end, computed_at),
            "source": source,
            "definition": self._definition_of_list
            + self.definition(time_range)
            + self.definition_of_users(time_range, now),
            **({"where": str(self.where)} if self.where else {}),
        }

    @property
    def _definition_of_list(self) -> str:
        return f"The users whom {self.cell.subject} of this answer counts: " if self.cell else ""

    @property
    def page_position(self) -> UserPosition | None:
        """The place in a list of users after which a page begins; None for the first page."""
        return self.page.position if self.page else None

    @property
    def criteria(self) -> str:
        """The event names and the condition, as the middle of a sentence about events."""
        names = self.event_names or []
        quoted = " or ".join(f'"{name}"' for name in names)
        is_short = len(names) <= _MAX_DEFINED_NAMES
        named = f" named {quoted if is_short else f'as one of {len(names)} names'}" if names else ""
        return named + (f" that match {self.where}" if self.where else "")

    def range_text(self, time_range: Range) -> str:
        """Return a range as the middle of a sentence."""
        start, end = (_instant_text(edge.astimezone(self.zone)) for edge in time_range)
        if time_range == ALL_TIME:
            return "at any time"
        if time_range.end == ALL_TIME.end:
            return f"from {start} on"
        if time_range.start == ALL_TIME.start:
            return f"before {end}"
        return f"from {start} up to but excluding {end}"

    def range_at(self, now: datetime) -> Range:
        """Return the range if the current time is `now`. Raises: InvalidParameter."""
        time_range = self._requested_range(now)
        if self.interval and too_many_buckets(time_range, self.interval):
            raise _invalid(
                "interval",
                f"may give more than {MAX_BUCKETS} buckets over this range; use a longer interval "
                "or a shorter range",
            )
        narrows = self.complete and self.interval
        return self._complete_range(time_range, now) if narrows else time_range

    def _requested_range(self, now: datetime) -> Range:
        return self.period.fixed_range or self._moving_range(now)

    def _complete_range(self, time_range: Range, now: datetime) -> Range:
        """Return the whole periods of a range that are over. Raises: InvalidParameter."""
        assert self.interval, "only periods are complete"
        starts = unit_starts(
            time_range.until(now), self.interval, self.zone, week_start=self.week_start
        )
        if len(starts) < 2:
            raise _invalid("complete", f"the range has no whole {self.interval} that is over")
        return Range(starts[0], starts[-1])

    def _moving_range(self, now: datetime) -> Range:
        start = self.period.start
        if start is None:
            return self._last_range(now)
        # `now` may be before the range: the clock of a replica that is a day behind.
        return Range(start, max(start, day_start(local_day(now, self.zone) + _DAY, self.zone)))

    def _last_range(self, now: datetime) -> Range:
        assert self.period.last, "a period without a start has a length"
        try:
            time_range = last_range(self.period.last, now, self.zone, self.week_start)
        except (ValueError, OverflowError):
            raise _invalid("last", OUTSIDE_YEARS) from None
        if time_range.start < EARLIEST:
            raise _invalid("last", OUTSIDE_YEARS)
        return time_range


def _instant_text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _invalid(parameter: str, message: str) -> InvalidParameter:
    return InvalidParameter(faults=[Fault(parameter, message)])
