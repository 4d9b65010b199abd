"""Erase a user: the events and all data derived from them, in one transaction."""

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from typing import Any, NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from common.receipts import Receipt
from config.database import Cursor
from config.database_errors import DatabaseUnavailable
from config.invocation import invocation
from repo.database_identity import read_identity
from repo.engine.watermark import Watermark, read_horizon, read_watermark
from repo.planner_statistics import disable_statistics, refresh_time_statistics
from repo.rollups import daily_stats
from repo.rollups.aggregate import ALL, Key
from repo.rollups.fold import SQL as FOLD
from repo.rollups.fold import snapshot_locked
from repo.rollups.user_removal import NO_ORDINAL, RemovalResult, UserRemoval
from repo.statement_redaction import Hidden
from repo.statements import statements
from utils.time.slots import Span, month_number, slot_of, slot_start

SQL = statements("erase")

RIGHTS_MESSAGE = "only the owner of the tables can erase"
# With so long a tail, daily statistics are deleted and queued instead of recomputed here: each
# batch would read all of the tail.
LONG_TAIL = 100_000
_MAX_ATTEMPTS = 5  # of a transaction that conflicts with another one


class EraseRepo:
    """Erases users; each method is one transaction, and `conn` must be in autocommit."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def count(self, user_ids: Sequence[str]) -> int:
        """Return how many events these users have. Raises: DatabaseUnavailable."""
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            params = {"user_ids": Hidden(list(user_ids))}
            cur.execute(SQL["erase_count_events"], params)
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def get_identity(self) -> str | None:
        """Return the database's identity; None without a schema. Raises: DatabaseUnavailable."""
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            return read_identity(cur)

    def erase(self, user_id: str, *, is_suppressed: bool = False) -> Receipt:
        """Erase a user, and return the receipt; a user without any data has one as well.

        Events that are committed later are stored as usual, unless the user is suppressed. Dropped
        events are in the rollups only, which do not hold the number of events of each user: such
        counts of events keep them.

        Raises: RightsMissing, DatabaseUnavailable.
        """
        with translate_errors(RIGHTS_MESSAGE):
            # The transaction is REPEATABLE READ: it fails if another one has changed the same rows.
            for _ in range(_MAX_ATTEMPTS):
                with suppress(errors.SerializationFailure), snapshot_locked(self._conn) as cur:
                    horizon = read_horizon(cur)
                    first = slot_of(horizon) if horizon else None
                    return _Erasure(cur, user_id, first).run(is_suppressed=is_suppressed)
        raise DatabaseUnavailable(
            "other transactions kept changing the same events: run this again"
        )


class _Generation(NamedTuple):
    """A generation of this cluster, and the version for spans that the erasure changes."""

    generation: int
    is_current: bool
    first_slot: int | None
    version: int


@dataclass(slots=True)
class _Erasure:
    """The erasure of one user, in a transaction that excludes folds."""

    cur: Cursor
    user_id: str
    horizon: int | None
    """The first slot whose events were not dropped; None if none were."""
    changed_slots: set[int] = field(default_factory=set)
    """All slots with events of the user, or whose sets contain the user."""
    dropped_slots: set[int] = field(default_factory=set)
    """The changed slots before the horizon."""
    removals: list[RemovalResult] = field(default_factory=list)

    def run(self, *, is_suppressed: bool) -> Receipt:
        """Erase the user and return the receipt. Raises: DatabaseUnavailable."""
        # Rollups first: what to subtract is counted from the events.
        self._refuse_during_restore()
        generations = self._generations()
        self._remove_from_rollups(generations)
        events = self._delete_events()
        self._delete_samples()
        for generation in generations:
            if generation.is_current:
                self._bump_cache_versions(generation.version)
        days = daily_stats.affected_days(self.cur, self.changed_slots)
        self._recompute_daily_stats(days)
        return self._receipt(events, sum(map(len, days.values())), is_suppressed=is_suppressed)

    def _refuse_during_restore(self) -> None:
        self.cur.execute(FOLD["fold_is_restored"])
        if self.cur.fetchone() != (True,):
            raise DatabaseUnavailable("events are being restored: erase after that")

    def _generations(self) -> list[_Generation]:
        self._refuse_or_delete_foreign()
        self.cur.execute(SQL["erase_generations"])
        return [_Generation(*row) for row in self.cur]

    def _refuse_or_delete_foreign(self) -> None:
        """Delete rollups of another cluster, unless they are all that is left of dropped events."""
        if self.horizon is None:
            self.cur.execute(SQL["erase_delete_foreign_rollups"])
            return
        self.cur.execute(SQL["erase_has_foreign_rollups"])
        if self.cur.fetchone() == (True,):
            raise DatabaseUnavailable(
                "rollups of another cluster hold what was dropped: "
                f"run `{invocation('rollup --once')}`, which takes them over, and erase then"
            )

    def _remove_from_rollups(self, generations: Sequence[_Generation]) -> None:
        self.cur.execute(SQL["erase_ordinal"], {"user_id": Hidden(self.user_id)})
        (ordinal,) = self.cur.fetchone() or (NO_ORDINAL,)
        for generation in generations:
            removal = UserRemoval(self.cur, generation.generation, generation.version, ordinal)
            # A cursor of its own, since `remove` executes statements while it reads the counts.
            with self.cur.connection.cursor() as counts_cur:
                counts = self._counts(counts_cur, generation)
                result = removal.remove(chain(self._dropped_counts(removal, generation), counts))
            self.removals.append(result)
            params = {"version": generation.version, "is_sealed": bool(result.spans)}
            self.cur.execute(SQL["erase_version"], {"generation": generation.generation, **params})
        self.changed_slots |= self.dropped_slots

    def _dropped_counts(
        self, removal: UserRemoval, generation: _Generation
    ) -> Iterator[tuple[Key, int]]:
        """Yield slots before the horizon whose sets contain the user, with 0 events."""
        if self.horizon is None or generation.first_slot is None:
            return
        for slot in removal.slots_of_user(Span(generation.first_slot, self.horizon)):
            self.dropped_slots.add(slot)
            yield (slot, ALL), 0

    def _counts(self, cur: cursor, generation: _Generation) -> Iterator[tuple[Key, int]]:
        since = "-infinity" if self.horizon is None else slot_start(self.horizon)
        params = {
            "generation": generation.generation,
            "user_id": Hidden(self.user_id),
            "since": since,
        }
        cur.execute(SQL["erase_event_counts"], params)
        for slot, name_id, count in cur:
            yield (slot, name_id), count

    def _delete_events(self) -> int:
        """Delete all events of the user, folded or not, and the ordinal; return their number."""
        params = {"user_id": Hidden(self.user_id)}
        self.cur.execute(SQL["erase_events"], params)
        # Also slots whose events are not folded: cached answers and daily statistics include them.
        counts = self.cur.fetchall()
        self.changed_slots |= {slot for slot, _ in counts}
        for name in ("erase_future_events", "erase_user"):
            self.cur.execute(SQL[name], params)
        return sum(count for _, count in counts)

    def _delete_samples(self) -> None:
        """Remove the user from the samples of the planner's statistics."""
        disable_statistics(self.cur)
        refresh_time_statistics(self.cur)

    def _bump_cache_versions(self, version: int) -> None:
        """Invalidate cached responses about the months of changed slots."""
        months = sorted(set(map(_month_of_slot, self.changed_slots)))
        self.cur.execute(FOLD["fold_raise_month_versions"], {"months": months, "version": version})

    def _recompute_daily_stats(self, days: Mapping[str, list[date]]) -> None:
        watermark = read_watermark(self.cur)
        if watermark is None or self._has_long_tail(watermark):
            daily_stats.clear(self.cur, days)
        else:
            daily_stats.recount(self.cur, watermark, days)

    def _has_long_tail(self, watermark: Watermark) -> bool:
        self.cur.execute(FOLD["fold_count_tail"], {**watermark.tail, "limit": LONG_TAIL})
        return self.cur.fetchone() == (LONG_TAIL,)

    def _receipt(self, events: int, days: int, *, is_suppressed: bool) -> Receipt:
        salt = secrets.token_hex(16)
        values: dict[str, Any] = {
            "events": events,
            "slots": sum(len(removal.slots) for removal in self.removals),
            "spans": sum(len(removal.spans) for removal in self.removals),
            "days": days,
            "first_month": _first_day(min(self.changed_slots, default=None)),
            "last_month": _first_day(max(self.changed_slots, default=None)),
            "suppressed": is_suppressed,
            "unknown_before": slot_start(self.horizon)
            if self.horizon and self.dropped_slots
            else None,
        }
        # The proof identifies the user only to somebody who has the receipt's salt and the id.
        proof = hashlib.sha256(f"{salt}{self.user_id}".encode()).digest()
        self.cur.execute(SQL["erase_receipt"], {**values, "proof": proof})
        erasure_id, erased_at = self.cur.fetchone() or ()
        adopted = () if is_suppressed else self._adopted_tables()
        return Receipt(erasure_id, erased_at, salt, **values, may_return_from=adopted)

    def _adopted_tables(self) -> tuple[str, ...]:
        self.cur.execute(SQL["erase_adopted_tables"])
        return tuple(name for (name,) in self.cur)


def _month_of_slot(slot: int) -> int:
    return month_number(slot_start(slot))


def _first_day(slot: int | None) -> date | None:
    """Return the first day of the slot's UTC month."""
    return None if slot is None else slot_start(slot).date().replace(day=1)
