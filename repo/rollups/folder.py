"""The folder: keeps the rollups up with the events."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from common.decorators import translated
from config.failures import DatabaseUnavailable
from repo.rollups import numbers, telling
from repo.rollups.day_counter import DayCounter, FailedDay
from repo.rollups.fold import (
    Gone,
    Progress,
    begin,
    fold,
    locked,
    snapshot_locked,
    store,
)
from repo.rollups.seal import due, next_of, over, seal
from repo.rollups.taker import MOST, Taker
from repo.rollups.waiting import EVERYTHING, Snapshot, waiting
from repo.statements import statements
from utils.signals import uninterrupted
from utils.slots import HOUR, Span, slot_of

SQL = statements("fold")
log = logging.getLogger("analytics.rollup")

_RIGHTS = "this role may not fold events"
_ADOPT_AT_ONCE = 20_000
LONG_TAIL = 100_000
"""While so many events are not folded, days are not counted: each would read them all."""
_ROUNDS = 10
"""Of `catch_up`: a steady stream of events does not keep it for ever."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    events: int
    """Folded."""
    spans: int
    """Sealed."""
    is_more: bool
    """Whether there is more to do at once."""


class Folder:
    """Works in transactions of its own; several folders take turns."""

    def __init__(self, conn: connection, zones: Sequence[ZoneInfo], most: int = MOST) -> None:
        """`conn` must be in autocommit; `most` events are folded at a time."""
        self._conn = conn
        self._zones = zones
        self._taker = Taker(most)
        self._days = DayCounter()
        self._looked: dict[int, Span] = {}
        self._due: dict[int, list[Span]] = {}
        self._marked: int | None = None
        self._compared: int | None = None
        """The hour in which edges of days were compared with the rules of their zones."""
        self.folded = 0
        """Events of all steps that are committed."""

    def catch_up(self, done: Callable[[str, int], object] = lambda *_: None) -> int:
        """Fold all that is committed, seal all that is over, and count the numbers of all days.

        What comes in meanwhile as well, for a number of rounds: see `pending` and `days_due`.
        `done` is called with what was done, again and again: so many `events`, `spans` or `days`.
        Returns how many events were folded. Raises: DatabaseUnavailable.
        """
        events = 0
        for _ in range(_ROUNDS):
            events += self._fold_all(done)
            while days := self.count_numbers():
                done("days", days)
            if not self.pending(1):
                break
        return events

    def _fold_all(self, done: Callable[[str, int], object]) -> int:
        events, is_more = 0, True
        while is_more:
            step = self.step()
            events, is_more = events + step.events, step.is_more
            done("events", step.events)
            done("spans", step.spans)
        return events

    def step(self) -> Step:
        """Do some of the work of each generation. Raises: DatabaseUnavailable."""
        with translated(_RIGHTS):
            steps = [self._try_step(generation) for generation in self._generations()]
        return Step(
            sum(step.events for step in steps),
            sum(step.spans for step in steps),
            any(step.is_more for step in steps),
        )

    def _generations(self) -> list[int]:
        """Those of this cluster; one is begun where there is none, or only one of the future."""
        with self._conn.cursor() as cur:
            cur.execute(SQL["fold_is_restored"])
            if cur.fetchone() != (True,):
                raise DatabaseUnavailable("events are being restored: constraints are missing")
            cur.execute(SQL["fold_generations"])
            here = list(cur)
            if not here:
                self._adopt(cur)
            elif len(here) == 1 and here[0][1]:
                log.warning("the clock was put back: rollups are made anew")
            else:
                return [generation for generation, _ in here]
        return [*(generation for generation, _ in here), self._begin()]

    def _begin(self) -> int:
        with snapshot_locked(self._conn) as cur:
            return begin(cur)

    def _adopt(self, cur: cursor) -> None:
        """Events of another cluster, whose ids are those of transactions to come here.

        Until they have others every question would read them as not folded.
        """
        adopted = 1
        while adopted:
            cur.execute("begin")
            cur.execute(SQL["fold_adopt"], {"most": _ADOPT_AT_ONCE})
            adopted = cur.rowcount
            cur.execute("commit")

    def pending(self, most: int) -> int:
        """How many events are not folded, up to a limit, told without a lock.

        Raises: DatabaseUnavailable.
        """
        with translated(_RIGHTS), self._conn.cursor() as cur:
            cur.execute(SQL["fold_snapshot"])
            now, folded = cur.fetchone() or ()
            tail = waiting(Snapshot(now), Snapshot(folded)) if folded else EVERYTHING
            cur.execute(SQL["fold_count"], {**tail, "limit": most})
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def count_numbers(self) -> int:
        """Count the numbers of some of the days that are due; tell how many days.

        While very many events are not folded there are none. Raises: DatabaseUnavailable.
        """
        if self.pending(LONG_TAIL) >= LONG_TAIL:
            return 0
        with translated(_RIGHTS):
            return self._days.count(self._conn)

    def days_due(self) -> int:
        """How many days wait to be counted, without failed ones. Raises: DatabaseUnavailable."""
        with translated(_RIGHTS), self._conn.cursor() as cur:
            return numbers.count_due(cur, self.failed_days)

    @property
    def failed_days(self) -> Sequence[FailedDay]:
        """Days whose numbers could not be counted: the others went on without them."""
        return self._days.failed

    def beat(self) -> None:
        """Tell replicas what time it is, if there are any: they know it from what is committed.

        Raises: DatabaseUnavailable.
        """
        with translated(_RIGHTS), self._conn.cursor() as cur:
            cur.execute(SQL["fold_beat"])

    def take_untold(self, names: Sequence[str]) -> dict[str, int]:
        """Events that were folded, by whichever folder, and are not told yet: each is told once.

        By name for `names`, and of all others as `other`. Raises: DatabaseUnavailable.
        """
        with translated(_RIGHTS), snapshot_locked(self._conn) as cur:
            return telling.take(cur, names)

    def active_users(self) -> dict[str, int]:
        """Of the first zone: those of today, of 7 and of 30 days; nothing while nobody knows.

        Raises: DatabaseUnavailable.
        """
        with translated(_RIGHTS), self._conn.cursor() as cur:
            return telling.active_users(cur, self._zones[0]) if self._zones else {}

    def rejected_rows(self) -> int:
        """Rows of adopted tables that cannot be events. Raises: DatabaseUnavailable."""
        with translated(_RIGHTS), self._conn.cursor() as cur:
            return telling.rejected_rows(cur)

    def forget_undeclared(self) -> None:
        """Forget the numbers of zones that are not declared. Raises: DatabaseUnavailable."""
        with translated(_RIGHTS), snapshot_locked(self._conn) as cur:
            numbers.forget_others(cur, self._zones)

    def rebuild(self, done: Callable[[str, int], object] = lambda *_: None) -> int:
        """Make all rollups anew, while questions go on; tell how many events were folded.

        Of what is dropped the slots are kept as they are. Raises: DatabaseUnavailable.
        """
        with translated(_RIGHTS):
            self._begin()
        return self.catch_up(done)

    def stored(self) -> int | None:
        """About how many events there are, as PostgreSQL's statistics have it, if they do.

        Raises: DatabaseUnavailable.
        """
        with translated(_RIGHTS), self._conn.cursor() as cur:
            cur.execute(SQL["fold_stored"])
            (events,) = cur.fetchone() or (-1,)
            return int(events) if events > 0 else None

    def counted(self) -> int:
        """The events that rollups hold, by whichever process. Raises: DatabaseUnavailable."""
        with translated(_RIGHTS), self._conn.cursor() as cur:
            cur.execute(SQL["fold_counted"])
            (events,) = cur.fetchone() or (0,)
            return int(events)

    def _try_step(self, generation: int) -> Step:
        """Where another folder has switched to another generation, there is that one to look at."""
        try:
            with uninterrupted():
                return self._step(generation)
        except Gone:
            return Step(0, 0, is_more=True)

    def _step(self, generation: int) -> Step:
        with locked(self._conn, generation) as (cur, progress):
            events = fold(cur, progress, self._taker.take(cur, progress))
            spans = self._next_due(cur, progress)
            if spans:
                seal(cur, progress, spans)
            store(cur, progress)
            is_ready = progress.is_current or progress.is_level
            is_done = not spans and not progress.is_behind and is_ready
            if is_done and not progress.is_current:
                if not progress.is_told:
                    telling.add_missed(cur, generation, progress.until)
                _switch(cur, generation)
                numbers.prune(cur, self._zones, progress.first_slot, progress.until)
                if progress.first_slot is not None:
                    numbers.mark_all(cur, self._zones, progress.first_slot, progress.until)
            elif progress.is_current and progress.first_slot is not None:
                self._mark(cur, progress, progress.first_slot)
        # Only now: what a step that fails was to do is left to the next.
        if progress.is_current and progress.first_slot is not None:
            self._marked = slot_of(progress.until)
            self._compared = self._marked // HOUR
        self._due[generation] = self._due.get(generation, [])[len(spans) :]
        self.folded += events
        return Step(events, len(spans), not is_done)

    def _mark(self, cur: cursor, progress: Progress, first: int) -> None:
        """The days whose numbers change, by events or since time goes on."""
        numbers.mark(cur, self._zones, progress.touched, progress.until)
        if self._marked != slot_of(progress.until) or progress.first_slot_before is not None:
            numbers.prune(cur, self._zones, first, progress.until)
            numbers.mark_behind(cur, self._zones, first, progress.until)
        if self._compared != slot_of(progress.until) // HOUR:
            numbers.mark_moved(cur, self._zones, progress.until)

    def _next_due(self, cur: cursor, progress: Progress) -> Sequence[Span]:
        """Looking for them takes long: it is done when time, or a sweep, has come further."""
        generation, whole = progress.generation, over(progress)
        if whole and not self._due.get(generation) and self._looked.get(generation) != whole:
            self._due[generation] = due(cur, generation, whole, self._zones)
            self._looked[generation] = whole
        return next_of(cur, generation, self._due.get(generation, []))


def _switch(cur: cursor, generation: int) -> None:
    """Questions ask this generation from now on; the others are forgotten."""
    for name in ("fold_switch", "fold_forget"):
        cur.execute(SQL[name], {"generation": generation})
