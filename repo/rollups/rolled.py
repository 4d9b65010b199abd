"""Counts from rollups and what is not folded yet: the cost is that of the answer."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from heapq import nlargest
from typing import NamedTuple

from common.query import Query
from config.database import Cursor
from repo.cost import EDGES, FEW_SETS, Cost, windows_cost
from repo.editions import edition
from repo.rollups.memory import Memory
from repo.rollups.names import ALL, Key, NameIds, Names
from repo.rollups.reader import Reader, Tallies
from repo.rollups.state import State, read_users
from repo.rollups.unions import Tally, Unions
from repo.sources import Count, Counted, Top
from utils.timebuckets import Interval, Range, first_day

_MONTH = 31
_NAME_IDS = NameIds()


class Known(NamedTuple):
    """What is remembered of rows, and of their unions, which belong to these rows alone."""

    rows: Memory
    unions: Unions


KNOWN = Known(Memory(), Unions())
"""What this process knows. Only what is committed may be learned."""


class Rolled:
    """A Source."""

    kind = "rollups"

    def __init__(
        self,
        cur: Cursor,
        query: Query,
        state: State,
        *,
        guarded: bool = True,
        known: Known = KNOWN,
    ) -> None:
        """Guarded, it refuses what is too much to read."""
        self._guarded = guarded
        self._known = known
        self._cur = cur
        self._query = query
        self._state = state

    @property
    def edition(self) -> str | None:
        state, months = self._state, self._query.months
        return edition(state.lineage, state.changed) if months else None

    @property
    def horizon(self) -> datetime | None:
        return self._state.horizon

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        return self._reader().needs_dropped(ranges)

    def cost(self, ranges: Sequence[Range], *, each: bool) -> Cost:
        return self._reader(each=each).cost(ranges)

    allowed_events = EDGES

    def tail(self) -> int:
        return self._reader().tail()

    def counts(self, ranges: Sequence[Range]) -> Counted:
        tallies = self._tallies(ranges)
        return Counted(self._count(tallies), [self._count([tally]) for tally in tallies])

    def top(self, asked: Range, limit: int) -> Top:
        reader = self._reader(each=True)
        (tallies,) = reader.tallies([asked])
        first = _most_frequent(tallies, reader.names, limit)
        rows = [(name, self._count([tallies[key]])) for key, name in first.items()]
        rest = [tally for key, tally in tallies.items() if key not in first]
        return Top(self._count([*tallies.values()]), rows, len(rest), self._count(rest))

    def by_name(self, ranges: Sequence[Range]) -> list[list[tuple[str, Count]]]:
        """For each range the event names that it holds."""
        reader = self._reader(each=True)
        found = reader.tallies(ranges)
        names = reader.names.texts({key for tallies in found for key in tallies})
        return [
            [(names[key], self._count([tally])) for key, tally in tallies.items()]
            for tallies in found
        ]

    def active_cost(self, ranges: Sequence[Range]) -> Cost:
        cost, users = self.cost(ranges, each=False), read_users(self._cur)
        return cost + windows_cost(len(ranges), self._longest, cost.bytes, users)

    @property
    def _longest(self) -> int:
        """The days of the longest window."""
        return max(_MONTH, self._query.window)

    def active(self, days: Sequence[date], ranges: Sequence[Range]) -> Mapping[str, list[int]]:
        # The reader looks at many days, and at a few only what their windows take is much.
        if self._guarded and len(ranges) + self._longest > FEW_SETS:
            self.active_cost(ranges).check(EDGES)
        tallies = self._tallies(ranges)
        unions, query = self._known.unions, self._query
        return {
            **self._rolling(tallies),
            "active": unions.rolling(tallies, query.window),
            "calendar_week": unions.running(tallies, _firsts(query, days, "week")),
            "calendar_month": unions.running(tallies, _firsts(query, days, "month")),
        }

    def rolling(self, ranges: Sequence[Range], window: int) -> dict[str, list[int]]:
        """dau, wau, mau, and those of the window; ranges are days that follow each other."""
        tallies = self._tallies(ranges)
        return {
            **self._rolling(tallies),
            "active": self._known.unions.rolling(tallies, window),
        }

    def _rolling(self, days: Sequence[Tally]) -> dict[str, list[int]]:
        unions = self._known.unions
        return {
            "dau": [unions.count([day]) for day in days],
            "wau": unions.rolling(days, 7),
            "mau": unions.rolling(days, 30),
        }

    def _tallies(self, ranges: Sequence[Range]) -> list[Tally]:
        return [_tally(found) for found in self._reader().tallies(ranges)]

    def _count(self, tallies: Sequence[Tally]) -> Count:
        events = sum(tally.events for tally in tallies)
        return Count(events, self._known.unions.count(tallies))

    def _reader(self, *, each: bool = False) -> Reader:
        cur, state, query = self._cur, self._state, self._query
        names = Names(cur, state, query.event_names, _NAME_IDS, each=each)
        return Reader(cur, state, self._known.rows, names, query, guarded=self._guarded)


def _most_frequent(tallies: Tallies, names: Names, limit: int) -> dict[Key, str]:
    """The first ones in the order in which they are told; only these are looked up by name."""
    least = min(nlargest(limit, (tally.events for tally in tallies.values())), default=0)
    more = [key for key, tally in tallies.items() if tally.events > least]
    tied = [key for key, tally in tallies.items() if tally.events == least]
    found = names.texts(more) | names.first(tied, limit - len(more))
    return dict(sorted(found.items(), key=lambda named: (-tallies[named[0]].events, named[1])))


def _tally(found: Tallies) -> Tally:
    return found.get(ALL, Tally())


def _firsts(query: Query, days: Sequence[date], unit: Interval) -> list[bool]:
    return [first_day(day, unit, query.week_start) == day for day in days]
