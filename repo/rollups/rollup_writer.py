"""The folder: keeps the rollups up with the events."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from config.database_errors import DatabaseUnavailable
from repo.engine.tail import ALL_XIDS, Snapshot, tail_ranges
from repo.rollups import daily_stats, metrics_outbox
from repo.rollups.claim import MAX_EVENTS, BatchClaimer
from repo.rollups.daily_stats_worker import DailyStatsCounter, FailedDay
from repo.rollups.fold import (
    GenerationReplaced,
    Progress,
    begin,
    fold,
    locked,
    snapshot_locked,
    store,
)
from repo.rollups.seal import due_spans, next_spans, seal, sealable_range
from repo.statements import statements
from utils.signals import uninterrupted
from utils.time.slots import HOUR, Span, slot_of

SQL = statements("fold")
log = logging.getLogger("analytics.rollup")

_RIGHTS_MESSAGE = "this role may not fold events"
_ADOPT_BATCH = 20_000
LONG_TAIL = 100_000
"""While so many events are not folded, days are not counted: each would read them all."""
_MAX_ROUNDS = 10
"""Of `catch_up`: a steady stream of events does not keep it for ever."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    events: int
    """Folded."""
    spans: int
    """Sealed."""
    has_more: bool
    """Whether there is more to do at once."""


class RollupWriter:
    """Works in transactions of its own; several folders take turns."""

    def __init__(
        self, conn: connection, zones: Sequence[ZoneInfo], max_events: int = MAX_EVENTS
    ) -> None:
        """`conn` must be in autocommit; `most` events are folded at a time."""
        self._conn = conn
        self._zones = zones
        self._claimer = BatchClaimer(max_events)
        self._daily_stats = DailyStatsCounter()
        self._searched: dict[int, Span] = {}
        self._due_spans: dict[int, list[Span]] = {}
        self._enqueued_slot: int | None = None
        self._compared_hour: int | None = None
        """The hour in which edges of days were compared with the rules of their zones."""
        self.folded_events = 0
        """Events of all steps that are committed."""

    def catch_up(self, on_progress: Callable[[str, int], object] = lambda *_: None) -> int:
        """Fold all that is committed, seal all that is over, and count the numbers of all days.

        What comes in meanwhile as well, for a number of rounds: see `pending` and `days_due`.
        `done` is called with what was done, again and again: so many `events`, `spans` or `days`.
        Returns how many events were folded. Raises: DatabaseUnavailable.
        """
        events = 0
        for _ in range(_MAX_ROUNDS):
            events += self._fold_all(on_progress)
            while days := self.count_daily_stats():
                on_progress("days", days)
            if not self.count_pending(1):
                break
        return events

    def _fold_all(self, on_progress: Callable[[str, int], object]) -> int:
        events, has_more = 0, True
        while has_more:
            step = self.step()
            events, has_more = events + step.events, step.has_more
            on_progress("events", step.events)
            on_progress("spans", step.spans)
        return events

    def step(self) -> Step:
        """Do some of the work of each generation. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE):
            steps = [self._try_step(generation) for generation in self._generations()]
        return Step(
            sum(step.events for step in steps),
            sum(step.spans for step in steps),
            any(step.has_more for step in steps),
        )

    def _generations(self) -> list[int]:
        """Those of this cluster; one is begun where there is none, or only one of the future."""
        with self._conn.cursor() as cur:
            cur.execute(SQL["fold_is_restored"])
            if cur.fetchone() != (True,):
                raise DatabaseUnavailable("events are being restored: constraints are missing")
            cur.execute(SQL["fold_generations"])
            rows = list(cur)
            if not rows:
                self._adopt(cur)
            elif len(rows) == 1 and rows[0][1]:
                log.warning("the clock was put back: rollups are made anew")
            else:
                return [generation for generation, _ in rows]
        return [*(generation for generation, _ in rows), self._begin()]

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
            cur.execute(SQL["fold_adopt"], {"most": _ADOPT_BATCH})
            adopted = cur.rowcount
            cur.execute("commit")

    def count_pending(self, limit: int) -> int:
        """How many events are not folded, up to a limit, told without a lock.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_snapshot"])
            now, folded = cur.fetchone() or ()
            tail = tail_ranges(Snapshot(now), Snapshot(folded)) if folded else ALL_XIDS
            cur.execute(SQL["fold_count"], {**tail, "limit": limit})
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def count_daily_stats(self) -> int:
        """Count the numbers of some of the days that are due; tell how many days.

        While very many events are not folded there are none. Raises: DatabaseUnavailable.
        """
        if self.count_pending(LONG_TAIL) >= LONG_TAIL:
            return 0
        with translate_errors(_RIGHTS_MESSAGE):
            return self._daily_stats.count(self._conn)

    def count_due_days(self) -> int:
        """How many days wait to be counted, without failed ones. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return daily_stats.count_due(cur, self.failed_days)

    @property
    def failed_days(self) -> Sequence[FailedDay]:
        """Days whose numbers could not be counted: the others went on without them."""
        return self._daily_stats.failed

    def heartbeat(self) -> None:
        """Tell replicas what time it is, if there are any: they know it from what is committed.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_heartbeat"])

    def take_outbox(self, names: Sequence[str]) -> dict[str, int]:
        """Events that were folded, by whichever folder, and are not told yet: each is told once.

        By name for `names`, and of all others as `other`. Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), snapshot_locked(self._conn) as cur:
            return metrics_outbox.take_counts(cur, names)

    def active_users(self) -> dict[str, int]:
        """Of the first zone: those of today, of 7 and of 30 days; nothing while nobody knows.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return metrics_outbox.active_users(cur, self._zones[0]) if self._zones else {}

    def rejected_rows(self) -> int:
        """Rows of adopted tables that cannot be events. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return metrics_outbox.rejected_rows(cur)

    def delete_undeclared_zones(self) -> None:
        """Forget the numbers of zones that are not declared. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), snapshot_locked(self._conn) as cur:
            daily_stats.delete_other_zones(cur, self._zones)

    def rebuild(self, on_progress: Callable[[str, int], object] = lambda *_: None) -> int:
        """Make all rollups anew, while questions go on; tell how many events were folded.

        Of what is dropped the slots are kept as they are. Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE):
            self._begin()
        return self.catch_up(on_progress)

    def estimate_stored(self) -> int | None:
        """About how many events there are, as PostgreSQL's statistics have it, if they do.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_stored"])
            (events,) = cur.fetchone() or (-1,)
            return int(events) if events > 0 else None

    def count_folded(self) -> int:
        """The events that rollups hold, by whichever process. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_counted"])
            (events,) = cur.fetchone() or (0,)
            return int(events)

    def _try_step(self, generation: int) -> Step:
        """Where another folder has switched to another generation, there is that one to look at."""
        try:
            with uninterrupted():
                return self._step(generation)
        except GenerationReplaced:
            return Step(0, 0, has_more=True)

    def _step(self, generation: int) -> Step:
        with locked(self._conn, generation) as (cur, progress):
            events = fold(cur, progress, self._claimer.claim(cur, progress))
            spans = self._next_spans(cur, progress)
            if spans:
                seal(cur, progress, spans)
            store(cur, progress)
            is_ready = progress.is_current or progress.is_caught_up
            is_done = not spans and not progress.is_behind and is_ready
            if is_done and not progress.is_current:
                if not progress.is_reported:
                    metrics_outbox.add_missed(cur, generation, progress.until)
                _switch(cur, generation)
                daily_stats.prune(cur, self._zones, progress.first_slot, progress.until)
                if progress.first_slot is not None:
                    daily_stats.enqueue_all(cur, self._zones, progress.first_slot, progress.until)
            elif progress.is_current and progress.first_slot is not None:
                self._enqueue_days(cur, progress, progress.first_slot)
        # Only now: what a step that fails was to do is left to the next.
        if progress.is_current and progress.first_slot is not None:
            self._enqueued_slot = slot_of(progress.until)
            self._compared_hour = self._enqueued_slot // HOUR
        self._due_spans[generation] = self._due_spans.get(generation, [])[len(spans) :]
        self.folded_events += events
        return Step(events, len(spans), not is_done)

    def _enqueue_days(self, cur: cursor, progress: Progress, first_slot: int) -> None:
        """The days whose numbers change, by events or since time goes on."""
        daily_stats.enqueue(cur, self._zones, progress.touched_slots, progress.until)
        if self._enqueued_slot != slot_of(progress.until) or progress.first_slot_before is not None:
            daily_stats.prune(cur, self._zones, first_slot, progress.until)
            daily_stats.enqueue_behind(cur, self._zones, first_slot, progress.until)
        if self._compared_hour != slot_of(progress.until) // HOUR:
            daily_stats.enqueue_moved(cur, self._zones, progress.until)

    def _next_spans(self, cur: cursor, progress: Progress) -> Sequence[Span]:
        """Looking for them takes long: it is done when time, or a sweep, has come further."""
        generation, sealable = progress.generation, sealable_range(progress)
        if (
            sealable
            and not self._due_spans.get(generation)
            and self._searched.get(generation) != sealable
        ):
            self._due_spans[generation] = due_spans(cur, generation, sealable, self._zones)
            self._searched[generation] = sealable
        return next_spans(cur, generation, self._due_spans.get(generation, []))


def _switch(cur: cursor, generation: int) -> None:
    """Questions ask this generation from now on; the others are forgotten."""
    for name in ("fold_switch", "fold_forget"):
        cur.execute(SQL[name], {"generation": generation})
