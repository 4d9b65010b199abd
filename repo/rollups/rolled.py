"""Counts from rollups and what is not folded yet: the cost is that of the answer."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from pyroaring import BitMap

from common.questions import ActiveUsers, Ranged
from config.database import Cursor
from repo.cost import EDGES, Cost
from repo.editions import edition
from repo.rollups.memory import Memory
from repo.rollups.names import NameIds, Names
from repo.rollups.reader import Reader, Tally
from repo.rollups.state import State
from repo.sources import Count, Counted, Top
from utils.bitmaps import rolling, running
from utils.timebuckets import Interval, Range, first_day

MEMORY = Memory()
_NAME_IDS = NameIds()
_NOBODY = BitMap()


class Rolled:
    """A Source."""

    kind = "rollups"

    def __init__(
        self,
        cur: Cursor,
        question: Ranged,
        state: State,
        *,
        guarded: bool = True,
        memory: Memory = MEMORY,
    ) -> None:
        """Guarded, it refuses what is too much to read."""
        self._guarded = guarded
        self._memory = memory
        self._cur = cur
        self._question = question
        self._state = state

    @property
    def edition(self) -> str | None:
        state, months = self._state, self._question.months
        return edition(state.lineage, state.changed) if months else None

    def cost(self, ranges: Sequence[Range], *, each: bool) -> Cost:
        return self._reader(each=each).cost(ranges)

    allowed_events = EDGES

    def tail(self) -> int:
        return self._reader().tail()

    def counts(self, ranges: Sequence[Range]) -> Counted:
        tallies = [_tally(found) for found in self._reader().tallies(ranges)]
        users = [tally.users() for tally in tallies]
        each = [Count(t.events, len(by)) for t, by in zip(tallies, users, strict=True)]
        return Counted(Count(sum(count.events for count in each), len(_union(users))), each)

    def top(self, asked: Range, limit: int) -> Top:
        (tallies,) = self._reader(each=True).tallies([asked])
        found = _by_events(tallies)
        rows = [(name, Count(events, len(users))) for name, events, users in found[:limit]]
        rest = found[limit:]
        return Top(_count(found), rows, len(rest), _count(rest))

    def by_name(self, ranges: Sequence[Range]) -> list[list[tuple[str, Count]]]:
        """For each range the event names that it holds, the most frequent first."""
        return [
            [(name, Count(events, len(users))) for name, events, users in _by_events(tallies)]
            for tallies in self._reader(each=True).tallies(ranges)
        ]

    def active(
        self, question: ActiveUsers, days: Sequence[date], ranges: Sequence[Range]
    ) -> Mapping[str, list[int]]:
        sets = [_tally(found).users() for found in self._reader().tallies(ranges)]
        return {
            "dau": [len(users) for users in sets],
            "wau": list(rolling(sets, 7)),
            "mau": list(rolling(sets, 30)),
            "active": list(rolling(sets, question.window or 1)),
            "calendar_week": list(running(sets, _firsts(question, days, "week"))),
            "calendar_month": list(running(sets, _firsts(question, days, "month"))),
        }

    def _reader(self, *, each: bool = False) -> Reader:
        cur, state, question = self._cur, self._state, self._question
        names = Names(cur, state, question.names, _NAME_IDS, each=each)
        return Reader(cur, state, self._memory, names, question, guarded=self._guarded)


def _by_events(tallies: Mapping[str, Tally]) -> list[tuple[str, int, BitMap]]:
    found = [(name, tally.events, tally.users()) for name, tally in tallies.items()]
    return sorted(found, key=lambda row: (-row[1], row[0]))


def _tally(found: Mapping[str, Tally]) -> Tally:
    return found.get("", Tally())


def _union(sets: Iterable[BitMap]) -> BitMap:
    return BitMap.union(_NOBODY, *sets)


def _count(found: Sequence[tuple[str, int, BitMap]]) -> Count:
    events = sum(events for _, events, _ in found)
    return Count(events, len(_union(users for _, _, users in found)))


def _firsts(question: ActiveUsers, days: Sequence[date], unit: Interval) -> Iterable[bool]:
    return (first_day(day, unit, question.week_start) == day for day in days)
