"""The rollup writer: keeps all stores up to date with the events."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from config.database import Cursor
from config.database_errors import DatabaseUnavailable
from repo.columns.store import DEFAULT_MAX_PATHS, WrittenColumns
from repo.columns.summary import ColumnSummary, read_summary
from repo.rollups import daily_stats, metrics_outbox
from repo.rollups.aggregate import Batch
from repo.rollups.claim import MAX_EVENTS, BatchClaimer
from repo.rollups.daily_stats_refresh import FailedDay
from repo.rollups.fold import begin, count_tail, fold, locked, snapshot_locked
from repo.rollups.fold_state import GenerationReplaced, Progress, write_progress
from repo.rollups.stores import Stores, delete_generations
from repo.statements import statements
from utils.signals import uninterrupted

SQL = statements("fold")
log = logging.getLogger("analytics.rollup")

_RIGHTS_MESSAGE = "this role may not fold events"
_ADOPT_BATCH = 20_000
# Rounds of `catch_up`, so that it ends despite a steady stream of events.
_MAX_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step."""

    events: int
    """Events that were folded."""
    sealed: Counter[str]
    """How much was sealed, such as spans, by unit."""
    has_more: bool
    """Whether there is more to do immediately."""


class RollupWriter:
    """Maintains the rollups, in transactions of its own that exclude other rollup writers."""

    def __init__(
        self,
        conn: connection,
        zones: Sequence[ZoneInfo],
        max_events: int = MAX_EVENTS,
        max_paths: int = DEFAULT_MAX_PATHS,
    ) -> None:
        """`conn` must be in autocommit; a transaction folds at most `max_events`.

        `max_paths` properties get columns.
        """
        self._conn = conn
        self._zones = zones
        self._max_paths = max_paths
        self._claimer = BatchClaimer(max_events)
        self._stores = Stores(zones, max_paths)
        self._waits_for_stores = False
        """Whether a new generation is folded, and some of its stores are not built yet."""
        self.folded_events = 0
        """Events of all steps that were committed."""

    def catch_up(self, on_progress: Callable[[str, int], object] = lambda *_: None) -> int:
        """Fold all events, and do all work that folds leave for later.

        Includes what arrives meanwhile, up to a number of rounds; see `count_pending` and
        `count_due_days`. `on_progress` is called with `events` or the unit of a store, such as
        `spans` or `days`, and their number. Returns how many events were folded. Raises:
        DatabaseUnavailable.
        """
        events = 0
        for _ in range(_MAX_ROUNDS):
            events += self._fold_all(on_progress)
            while done := self.maintain(is_lazy=False):
                for unit, count in done.items():
                    on_progress(unit, count)
            if not self.count_pending(1) and not self._waits_for_stores:
                break
        return events

    def _fold_all(self, on_progress: Callable[[str, int], object]) -> int:
        events, has_more = 0, True
        while has_more:
            step = self.step()
            events, has_more = events + step.events, step.has_more
            on_progress("events", step.events)
            for unit, count in step.sealed.items():
                on_progress(unit, count)
        return events

    def step(self) -> Step:
        """Fold and seal once for each generation. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE):
            steps = [self._try_step(generation) for generation in self._generations()]
        return Step(
            sum(step.events for step in steps),
            sum((step.sealed for step in steps), Counter()),
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
        with snapshot_locked(self._conn, with_columns=True) as cur:
            return begin(cur, self._stores.from_events)

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
            return count_tail(cur, limit)

    def maintain(self, *, is_lazy: bool = True) -> Counter[str]:
        """Do some of the work that folds leave for later, such as counting days; return how much.

        By unit; empty if there is none. If `is_lazy`, stores may put work off until there is enough
        of it. Raises: DatabaseUnavailable.
        """
        counts, failures = [], []
        with translate_errors(_RIGHTS_MESSAGE):
            for store in self._stores:
                try:
                    counts.append((store.unit, store.maintain(self._conn, is_lazy=is_lazy)))
                except Exception as exc:  # a store that fails must not stop the others
                    failures.append(exc)
            if failures:
                raise failures[0]
            return _by_unit(counts)

    def write_columns(self) -> int:
        """Write some events to columns, if there are enough; return the number of chunks.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE):
            return self._stores.columns.maintain(self._conn, is_lazy=True)

    def flush(self) -> bool:
        """Bring the stores of events up to date with the folds; return whether any was behind.

        Call it again until none is. Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE):
            stores = self._stores.from_events
            return any(store.maintain(self._conn, is_lazy=False) for store in stores)

    def count_due_days(self) -> int:
        """Return how many days are queued, without failed ones. Raises: DatabaseUnavailable."""
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return daily_stats.count_due(cur, self.failed_days)

    @property
    def written_columns(self) -> WrittenColumns:
        """The events that this writer has written to columns, and the seconds that took."""
        return self._stores.columns.written

    def column_summary(self, limit: int) -> ColumnSummary | None:
        """Return what is in columns, with the lag up to a limit; None without rollups.

        Raises: DatabaseUnavailable.
        """
        with translate_errors(_RIGHTS_MESSAGE):
            return read_summary(self._conn, limit)

    @property
    def failed_days(self) -> Sequence[FailedDay]:
        """Days whose statistics could not be computed, and which are retried."""
        return self._stores.daily_stats.failed_days

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
                step = self._step(generation)
                self.folded_events += step.events
                return step
        except GenerationReplaced:  # by another rollup writer: the next step uses the new one
            return Step(0, Counter(), has_more=True)
        except BaseException:
            # They may remember what was rolled back: the next step has to do it again.
            self._stores = Stores(self._zones, self._max_paths)
            raise

    def _step(self, generation: int) -> Step:
        with locked(self._conn, generation) as (cur, progress):
            events = self._fold(cur, progress)
            # After the fold, so that a span that is sealed now includes the events of this fold.
            sealed = _by_unit((store.unit, store.seal(cur, progress)) for store in self._stores)
            write_progress(cur, progress)
            is_ready = progress.is_current or progress.is_caught_up
            is_done = not sealed and not progress.is_behind and is_ready
            if is_done and not progress.is_current:
                self._switch_if_built(cur, progress)
        return Step(events, sealed, not is_done)

    def _fold(self, cur: cursor, progress: Progress) -> int:
        """Fold the next events; return how many."""
        batch = Batch(self._claimer.claim(cur, progress), progress.until)
        fold(cur, progress, batch, self._stores)
        return len(batch)

    def _switch_if_built(self, cur: Cursor, progress: Progress) -> None:
        """Switch to this generation, unless the current one still answers more questions."""
        cur.execute(SQL["fold_has_current"])
        has_current = cur.fetchone() == (True,)
        self._waits_for_stores = has_current and not all(
            store.is_built(cur, progress) for store in self._stores
        )
        if not self._waits_for_stores:
            self._switch(cur, progress)

    def _switch(self, cur: Cursor, progress: Progress) -> None:
        """Make this generation the current one, and delete the others."""
        if not progress.is_reported:
            metrics_outbox.add_missed(cur, progress.generation, progress.until)
        for name in ("fold_switch", "fold_delete_other_generations"):
            cur.execute(SQL[name], {"generation": progress.generation})
        delete_generations(cur, [generation for (generation,) in cur])
        for store in self._stores.from_rollups:
            store.rebuild(cur, progress)


def _by_unit(counts: Iterable[tuple[str, int]]) -> Counter[str]:
    """Return the counts that are not 0 by unit."""
    return Counter({unit: count for unit, count in counts if count})
