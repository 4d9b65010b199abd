"""A test oracle: retention and lifecycle in plain Python, by the definitions in docs/questions.md.

It numbers local days, weeks and months by their dates, and computes no edges of periods, except for
the ends of cohorts that windows of 24 hours need.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.oracle import WEEKDAYS
from utils.time.calendar import day_start, local_day

MONTHS = {"month": 1, "quarter": 3, "year": 12}

_DAY = timedelta(days=1)
Cell = tuple[int, int, bool]
"""Users who are present, users who could be, and whether the period has not ended."""


@dataclass(frozen=True)
class Event:
    user: str
    at: datetime
    event_id: int
    is_entry: bool
    is_return: bool
    value: object = None


@dataclass(frozen=True)
class Cohort:
    users: int
    cells: list[Cell | None]


@dataclass(frozen=True, kw_only=True)
class Rules:
    start: datetime
    end: datetime
    now: datetime
    tz: ZoneInfo
    interval: str = "day"
    week_start: str = "monday"
    periods: int = 3
    entry: str = "first_ever"
    count: str = "on"
    clock: str = "calendar"

    def number(self, instant: datetime) -> int:
        """The number of the period that contains an instant."""
        day = local_day(instant, self.tz)
        if months := MONTHS.get(self.interval):
            return (day.year * 12 + day.month - 1) // months
        shift = WEEKDAYS.index(self.week_start)
        return day.toordinal() if self.interval == "day" else (day.toordinal() - 1 - shift) // 7

    def first_day(self, number: int) -> date:
        if months := MONTHS.get(self.interval):
            return date(number * months // 12, number * months % 12 + 1, 1)
        shift = WEEKDAYS.index(self.week_start)
        return date.fromordinal(number if self.interval == "day" else number * 7 + 1 + shift)

    @property
    def window(self) -> timedelta:
        return 7 * _DAY if self.interval == "week" else _DAY

    def lifecycle(self, events: Iterable[Event]) -> list[tuple[int, int, int, int]]:
        """The new, returning, resurrected and dormant users of each period that has begun."""
        users: dict[str, set[int]] = {}
        for event in events:
            if event.at < self.now and event.user:
                users.setdefault(event.user, set()).add(self.number(event.at))
        return [self.lifecycle_of(number, list(users.values())) for number in self.begun_periods()]

    def lifecycle_of(self, number: int, users: list[set[int]]) -> tuple[int, int, int, int]:
        active = [periods for periods in users if number in periods]
        old = [periods for periods in active if min(periods) < number]
        returning = [periods for periods in old if number - 1 in periods]
        dormant = [periods for periods in users if number - 1 in periods and number not in periods]
        return len(active) - len(old), len(returning), len(old) - len(returning), len(dormant)

    def begun_periods(self) -> list[int]:
        first, last = self.number(self.start), self.number(self.end - timedelta.resolution)
        begun = range(first, last + 1) if self.start <= self.now else ()
        return [number for number in begun if self.has_begun(number)]

    def cohorts(self, events: Iterable[Event], *values: object) -> list[Cohort]:
        """The cohorts of all users, or of those whose entry has one of these values."""
        past = self.past(events)
        return [self.cohort(number, past, values) for number in self.begun_periods()]

    def past(self, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if event.at < self.now and event.user]

    def has_begun(self, number: int) -> bool:
        return day_start(self.first_day(number), self.tz) <= self.now

    def cohort(self, number: int, events: list[Event], values: tuple[object, ...]) -> Cohort:
        entries = self.entries(number, events, values)
        cell = self.elapsed_cell if self.clock == "24h" else self.calendar_cell
        return Cohort(len(entries), [cell(number, k, entries, events) for k in range(self.periods)])

    def entries(
        self, number: int, events: list[Event], values: tuple[object, ...] = ()
    ) -> dict[str, Event]:
        """The entries of the cohort of a period, by user."""
        entries = {}
        for user in {event.user for event in events}:
            entry = self.entry_of([each for each in events if each.user == user], number)
            if entry and (not values or entry.value in values):
                entries[user] = entry
        return entries

    def present(
        self, number: int, k: int, events: list[Event], values: tuple[object, ...] = ()
    ) -> set[str]:
        """The users of a cell."""
        entries = self.entries(number, events, values)
        if self.clock == "24h":
            return self.present_in_window(k, entries, events)
        return self.present_in_period(number, k, entries, events)

    def entry_of(self, events: list[Event], number: int) -> Event | None:
        """The entry of a user, if it is in this period."""
        entries = sorted(
            (event for event in events if event.is_entry), key=lambda each: (each.at, each.event_id)
        )
        if self.entry != "first_ever":
            entries = [each for each in entries if self.start <= each.at < self.end]
        if self.entry == "each":
            entries = [each for each in entries if self.number(each.at) == number]
        for entry in entries[:1]:
            if self.start <= entry.at < self.end and self.number(entry.at) == number:
                return entry
        return None

    def calendar_cell(
        self, number: int, k: int, entries: dict[str, Event], events: list[Event]
    ) -> Cell | None:
        if not self.has_begun(number + k):
            return None
        returned = self.present_in_period(number, k, entries, events)
        is_partial = not self.has_begun(number + k + 1)
        return len(returned), len(entries), is_partial

    def present_in_period(
        self, number: int, k: int, entries: dict[str, Event], events: list[Event]
    ) -> set[str]:
        returned = {
            event.user
            for event in events
            if event.is_return
            and (
                self.number(event.at) == number + k
                or (self.count == "on_or_after" and self.number(event.at) > number + k)
            )
        }
        return returned & entries.keys()

    def elapsed_cell(
        self, number: int, k: int, entries: dict[str, Event], events: list[Event]
    ) -> Cell | None:
        start = max(self.start, day_start(self.first_day(number), self.tz))
        end = min(self.end, day_start(self.first_day(number + 1), self.tz))
        if start + k * self.window > self.now:
            return None
        could = self.users_with_window(k, entries)
        returned = self.present_in_window(k, entries, events)
        return len(returned), len(could), end + (k + 1) * self.window > self.now

    def users_with_window(self, k: int, entries: dict[str, Event]) -> set[str]:
        """The users whose window is over."""
        return {
            user for user, entry in entries.items() if entry.at + (k + 1) * self.window <= self.now
        }

    def present_in_window(self, k: int, entries: dict[str, Event], events: list[Event]) -> set[str]:
        return {
            user
            for user in self.users_with_window(k, entries)
            if any(
                self.is_in_window(event, entries[user], k) for event in events if event.user == user
            )
        }

    def is_in_window(self, event: Event, entry: Event, k: int) -> bool:
        if not event.is_return or event.event_id == entry.event_id or event.at < entry.at:
            return False
        window = (event.at - entry.at) // self.window
        return window == k or (self.count == "on_or_after" and window > k)
