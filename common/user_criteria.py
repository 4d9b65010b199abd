"""Criteria by which users are chosen: conditions on users whose ranges of time are resolved."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from common.dates import EARLIEST, OUTSIDE_YEARS
from common.errors import Fault, InvalidParameter
from common.selections import Times, UserCondition
from utils.time.calendar import Range, Weekday, day_start
from utils.time.ranges import last_range, parse_last

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class UserCriterion:
    """A condition on users with its range: events that they must have caused, or, for `not_did`,
    must not."""

    parameter: Literal["did", "not_did"]
    condition: UserCondition
    range: Range

    @property
    def is_negated(self) -> bool:
        return self.parameter == "not_did"

    def __str__(self) -> str:
        """The criterion without its range, as a part of a sentence about users."""
        times, where = self.condition.times, self.condition.selection.filter
        is_one = times in (Times(1), Times(1, 1), Times(0, 1))
        events = f"{_times_text(times)} {'event' if is_one else 'events'}"
        matching = f" that {'matches' if is_one else 'match'} {where}" if where else ""
        return f"{'do not have' if self.is_negated else 'have'} {events}{matching}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFilter:
    """The conditions on users of a question, and the calendar of their ranges."""

    did: tuple[UserCondition, ...] = ()
    not_did: tuple[UserCondition, ...] = ()
    zone: ZoneInfo
    week_start: Weekday

    def criteria(self, time_range: Range, now: datetime) -> tuple[UserCriterion, ...]:
        """Return the criteria of a question about a range. Raises: InvalidParameter."""
        return tuple(self._criteria(time_range, now))

    def _criteria(self, time_range: Range, now: datetime) -> Iterator[UserCriterion]:
        for condition in self.did:
            yield self._criterion("did", condition, time_range, now)
        for condition in self.not_did:
            yield self._criterion("not_did", condition, time_range, now)

    def _criterion(
        self,
        parameter: Literal["did", "not_did"],
        condition: UserCondition,
        time_range: Range,
        now: datetime,
    ) -> UserCriterion:
        try:
            own_range = self._range(condition, time_range, now)
        except ValueError as error:
            raise InvalidParameter(faults=[Fault(parameter, str(error))]) from None
        return UserCriterion(parameter, condition, own_range)

    def _range(self, condition: UserCondition, time_range: Range, now: datetime) -> Range:
        """Return the range in which a condition counts events. Raises: ValueError."""
        if condition.last:
            return self._last_range(condition.last, min(time_range.end, now))
        if condition.start is None and condition.end is None:
            return time_range
        start = EARLIEST if condition.start is None else self._instant(condition.start)
        end = time_range.end if condition.end is None else self._instant(condition.end)
        if start > end or (start == end and not _are_dates(condition)):
            raise ValueError("@start must be before @end, by default the end of the range")
        return Range(start, end)

    def _last_range(self, text: str, end: datetime) -> Range:
        last = parse_last(text)
        # The day that ends with the range is the last one.
        now = end if last.unit == "hour" else end - _MICROSECOND
        try:
            start = last_range(last, now, self.zone, self.week_start).start
        except (ValueError, OverflowError):
            raise ValueError(f"@last {OUTSIDE_YEARS}") from None
        if start < EARLIEST:
            raise ValueError(f"@last {OUTSIDE_YEARS}")
        return Range(start, end)

    def _instant(self, edge: date | datetime) -> datetime:
        return edge if isinstance(edge, datetime) else day_start(edge, self.zone)


def _are_dates(condition: UserCondition) -> bool:
    """Return whether the range is whole days: those that the zone skipped are empty."""
    start, end = condition.start, condition.end
    if start is None or end is None or isinstance(start, datetime) or isinstance(end, datetime):
        return False
    return start < end


def _times_text(times: Times) -> str:
    low, high = times
    if high is None:
        return f"at least {low}"
    if low == high:
        return f"exactly {low}"
    return f"at most {high}" if low == 0 else f"{low} to {high}"
