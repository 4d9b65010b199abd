"""Select a page of users, and collect what they did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from common.questions.users import Sort
from repo.columns.filter_evaluation import IdSet
from repo.engine.cost import MAX_BYTES
from repo.engine.ordinals import Ordinals
from repo.engine.scan import MatchingEvents
from repo.engine.timeline import instant, microseconds
from utils.time.calendar import Range, day_start, days_of

_VALUE_BYTES = 8
_DAYS = 2**22  # more than there are days


class _Rule(NamedTuple):
    """A reduction of the values of events to the value of their user."""

    combine: Any
    """A function of numpy."""
    initial: int
    """The value of users without events."""


_RULES: dict[Sort, _Rule] = {
    "last_seen": _Rule(np.maximum, -(2**63)),
    "first_seen": _Rule(np.minimum, 2**63 - 1),
    "events": _Rule(np.add, 0),
}


class SortCollector:
    """Collects the value by which each user is sorted."""

    def __init__(self, sort: Sort) -> None:
        self._sort = sort
        self._rule = _RULES[sort]
        self._values = np.zeros(0, np.int64)

    def add(self, events: MatchingEvents) -> None:
        """Add events. Raises: TooExpensive."""
        users = events.users
        highest = int(users.max(initial=0))
        if highest >= len(self._values):
            self._grow(highest + 1)
        values: Any = 1 if self._sort == "events" else events.chunk.time[events.rows]
        self._rule.combine.at(self._values, users, values)

    def users(self) -> tuple[Ordinals, NDArray[np.int64]]:
        """Return the ordinals of all users with events, and their values."""
        has_events = self._values != self._rule.initial
        has_events[:1] = False  # events without a user
        ordinals = np.flatnonzero(has_events)
        return ordinals.astype(np.uint32), self._values[ordinals]

    def _grow(self, length: int) -> None:
        size = length * _VALUE_BYTES
        if size > MAX_BYTES:
            raise TooExpensive("bytes of users", size, MAX_BYTES, "a shorter range")
        values = np.full(max(length, len(self._values) * 5 // 4), self._rule.initial)
        values[: len(self._values)] = self._values
        self._values = values


class NamedUser(NamedTuple):
    """A user in the list."""

    value: int
    user_id: str
    ordinal: int


InOrder = Callable[[Ordinals, str | None, int], list[tuple[str, int]]]
"""Returns the ids and ordinals of those users whose ids are greater, by id, up to a limit."""


def select_page(
    ordinals: Ordinals,
    values: NDArray[np.int64],
    after: tuple[int, str] | None,
    limit: int,
    in_order: InOrder,
) -> list[NamedUser]:
    """Return the users with the greatest values, those of equal values by their ids.

    `after` is the value and the id of the last user before them.
    """
    page: list[NamedUser] = []
    if after:
        value, user_id = after
        page = _named(value, in_order(ordinals[values == value], user_id, limit))
        ordinals, values = ordinals[values < value], values[values < value]
    count = min(limit - len(page), len(values))
    if count <= 0:
        return page
    least = int(np.partition(values, -count)[-count])
    above = values > least
    value_of = dict(zip(ordinals[above].tolist(), values[above].tolist(), strict=True))
    greater = [
        NamedUser(value_of[ordinal], user_id, ordinal)
        for user_id, ordinal in in_order(ordinals[above], None, limit)
    ]
    page += sorted(greater, key=lambda user: (-user.value, user.user_id))
    return page + _named(least, in_order(ordinals[values == least], None, limit - len(page)))


def _named(value: int, users: Sequence[tuple[str, int]]) -> list[NamedUser]:
    return [NamedUser(value, user_id, ordinal) for user_id, ordinal in users]


@dataclass(slots=True)
class Activity:
    """The events of one user, in numbers."""

    first: int
    last: int
    events: int
    active_days: int


class ActivityCollector:
    """Collects what the users of a page did."""

    def __init__(self, ordinals: Sequence[int], zone: ZoneInfo) -> None:
        self._ordinals = np.array(sorted(ordinals), np.int64)
        self._ids = IdSet(ordinals)
        self._zone = zone
        count = len(ordinals)
        self._first = np.full(count, 2**63 - 1)
        self._last = np.full(count, -(2**63))
        self._events = np.zeros(count, np.int64)
        self._days: set[int] = set()

    def add(self, events: MatchingEvents) -> None:
        rows = events.rows[self._ids.contains(events.users)]
        if not len(rows):
            return
        users = np.searchsorted(self._ordinals, events.chunk.user[rows])
        times = events.chunk.time[rows]
        np.minimum.at(self._first, users, times)
        np.maximum.at(self._last, users, times)
        np.add.at(self._events, users, 1)
        self._days.update(np.unique(users * _DAYS + self._day_numbers(times)).tolist())

    def activities(self) -> Mapping[int, Activity]:
        """Return what users did, by their ordinals."""
        days = np.array(sorted(self._days), np.int64) // _DAYS
        columns = (
            self._first,
            self._last,
            self._events,
            np.bincount(days, minlength=len(self._ordinals)),
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return {
            ordinal: Activity(*row)
            for ordinal, row in zip(self._ordinals.tolist(), rows, strict=True)
        }

    def _day_numbers(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the local day of each time, as a number."""
        first, last = int(times.min()), int(times.max())
        days = days_of(Range(instant(first), instant(last + 1)), self._zone)
        starts = np.array([microseconds(day_start(day, self._zone)) for day in days])
        numbers = np.array([day.toordinal() for day in days])
        return numbers[np.searchsorted(starts, times, side="right") - 1]
