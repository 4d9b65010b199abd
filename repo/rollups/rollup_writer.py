"""The rollup writer: folds events, seals spans and queues daily statistics."""

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
# No daily statistics are computed while the tail is so long: each batch would read all of it.
LONG_TAIL = 100_000

# Rounds of `catch_up`, so that it ends despite a steady stream of events.
_MAX_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step."""

    events: int
    """Events that were folded."""
    spans: int
    """Spans that were sealed."""
    has_more: bool
    """Whether there is more to do immediately."""


class RollupWriter:
    """Maintains the rollups, in transactions of its own that exclude other rollup writers."""

    def __init__(
        self, conn: connection, zones: Sequence[ZoneInfo], max_events: int = MAX_EVENTS
    ) -> None:
        """`conn` must be in autocommit; a transaction folds at most `max_events`."""
        self._conn = conn
        self._zones = zones
        self._claimer = BatchClaimer(max_events)
        self._daily_stats = DailyStatsCounter()
        self._searched: dict[int, Span] = {}
        self._due_spans: dict[int, list[Span]] = {}
        self._enqueued_slot: int | None = None
        self._compared_hour: int | None = None
        """The hour in which limits of days were last compared with the rules of their zones."""
        self.folded_events = 0
        """Events of all steps that were committed."""

    def catch_up(self, on_progress: Callable[[str, int], object] = lambda *_: None) -> int:
        """Fold all events, seal all past spans, and compute all queued daily statistics.

        Includes what arrives meanwhile, up to a number of rounds; see `count_pending` and
        `count_due_days`. `on_progress` is called with `events`, `spans` or `days` and their number.
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
        """Fold and seal once for each generation. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE):
            steps = [self._try_step(generation) for generation in self._generations()]
        return Step(
            sum(step.events for step in steps),
            sum(step.spans for step in steps),
            any(step.has_more for step in steps),
        )

    def _generations(self) -> list[int]:
        """Return the generations of this cluster; begin one if there is none that can be used."""
        with self._conn.cursor() as cur:
            cur.execute(SQL["fold_is_restored"])
            if cur.fetchone() != (True,):
                raise DatabaseUnavailable(
                    "events are being restored: run this again when their constraints exist"
                )
            cur.execute(SQL["fold_generations"])
            rows = list(cur)
            if not rows:
                self._adopt(cur)
            elif len(rows) == 1 and rows[0][1]:
                # Folded up to a time in the future: all events until then would be late.
                log.warning("the clock was put back: building a new generation of the rollups")
            else:
                return [generation for generation, _ in rows]
        return [*(generation for generation, _ in rows), self._begin()]

    def _begin(self) -> int:
        with snapshot_locked(self._conn) as cur:
            return begin(cur)

    def _adopt(self, cur: cursor) -> None:
        """Give events that were restored from another cluster transaction ids of this one."""
        # Their ids are in the future here, so the events would stay in the tail. In batches, each
        # in a transaction of its own.
        adopted = 1
        while adopted:
            cur.execute("begin")
            cur.execute(SQL["fold_adopt_restored"], {"limit": _ADOPT_BATCH})
            adopted = cur.rowcount
            cur.execute("commit")

    def count_pending(self, limit: int) -> int:
        """Return the number of events in the tail, up to a limit, without a lock.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_snapshot"])
            now, folded = cur.fetchone() or ()
            tail = tail_ranges(Snapshot(now), Snapshot(folded)) if folded else ALL_XIDS
            cur.execute(SQL["fold_count_tail"], {**tail, "limit": limit})
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def count_daily_stats(self) -> int:
        """Compute the daily statistics of some queued days; return how many days were tried.

        Does nothing while the tail is long. Raises: DatabaseUnavailable.
        """
        if self.count_pending(LONG_TAIL) >= LONG_TAIL:
            return 0
        with translate_errors(_RIGHTS_MESSAGE):
            return self._daily_stats.count(self._conn)

    def count_due_days(self) -> int:
        """Return how many days are queued, without failed ones. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return daily_stats.count_due(cur, self.failed_days)

    @property
    def failed_days(self) -> Sequence[FailedDay]:
        """Days whose statistics could not be computed, and which are retried."""
        return self._daily_stats.failed

    def heartbeat(self) -> None:
        """Commit something if there are replicas, which tell their age by the last commit.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_heartbeat"])

    def take_outbox(self, names: Sequence[str]) -> dict[str, int]:
        """Remove and return the counts of folded events that no process has published yet.

        By name for `names`, and of all others as `other`. Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), snapshot_locked(self._conn) as cur:
            return metrics_outbox.take_counts(cur, names)

    def active_users(self) -> dict[str, int]:
        """Return the users of today, 7 and 30 days in the first zone; empty while not counted.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return metrics_outbox.active_users(cur, self._zones[0]) if self._zones else {}

    def rejected_rows(self) -> int:
        """Return the number of rejected rows of adopted tables. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return metrics_outbox.rejected_rows(cur)

    def delete_undeclared_zones(self) -> None:
        """Delete the daily statistics of undeclared zones. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), snapshot_locked(self._conn) as cur:
            daily_stats.delete_other_zones(cur, self._zones)

    def rebuild(self, on_progress: Callable[[str, int], object] = lambda *_: None) -> int:
        """Build a new generation of the rollups while the current one answers queries.

        Slots of dropped events are copied. Returns how many events were folded. Raises:
        DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE):
            self._begin()
        return self.catch_up(on_progress)

    def estimate_stored(self) -> int | None:
        """Return PostgreSQL's estimate of the number of events; None if it has none.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_estimate_stored"])
            (events,) = cur.fetchone() or (-1,)
            return int(events) if events > 0 else None

    def count_folded(self) -> int:
        """Return the number of events in the rollups. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["fold_count_folded"])
            (events,) = cur.fetchone() or (0,)
            return int(events)

    def _try_step(self, generation: int) -> Step:
        try:
            # A signal must not end the command between a commit and the count of what it stored.
            with uninterrupted():
                return self._step(generation)
        except GenerationReplaced:  # by another rollup writer: the next step uses the new one
            return Step(0, 0, has_more=True)

    def _step(self, generation: int) -> Step:
        with locked(self._conn, generation) as (cur, progress):
            events = fold(cur, progress, self._claimer.claim(cur, progress))
            # After the fold, so that a span that is sealed now includes the events of this fold.
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
        # After the commit: the next step repeats what a failed one was to do.
        if progress.is_current and progress.first_slot is not None:
            self._enqueued_slot = slot_of(progress.until)
            self._compared_hour = self._enqueued_slot // HOUR
        self._due_spans[generation] = self._due_spans.get(generation, [])[len(spans) :]
        self.folded_events += events
        return Step(events, len(spans), not is_done)

    def _enqueue_days(self, cur: cursor, progress: Progress, first_slot: int) -> None:
        """Queue the days whose statistics change, by events or by the passing of time."""
        daily_stats.enqueue(cur, self._zones, progress.touched_slots, progress.until)
        if self._enqueued_slot != slot_of(progress.until) or progress.first_slot_before is not None:
            daily_stats.prune(cur, self._zones, first_slot, progress.until)
            daily_stats.enqueue_behind(cur, self._zones, first_slot, progress.until)
        if self._compared_hour != slot_of(progress.until) // HOUR:
            daily_stats.enqueue_moved(cur, self._zones, progress.until)

    def _next_spans(self, cur: cursor, progress: Progress) -> Sequence[Span]:
        """Return the spans to seal in this transaction."""
        # The search takes long, so it runs only after the range that can be sealed has grown.
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
    """Make this generation the current one, and delete the others."""
    for name in ("fold_switch", "fold_delete_other_generations"):
        cur.execute(SQL[name], {"generation": generation})
