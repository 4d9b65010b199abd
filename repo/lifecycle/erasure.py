"""Erase a user: the events and all data derived from them, in one transaction."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import Any

from psycopg2 import errors
from psycopg2.extensions import connection

from common.decorators import translate_errors
from common.receipts import Receipt
from config.database import Cursor
from config.database_errors import DatabaseUnavailable
from config.invocation import invocation
from repo.database_identity import read_identity
from repo.engine.watermark import read_horizon, read_user_count
from repo.hide_from_pg_stat_activity import Hidden
from repo.planner_statistics_privacy import disable_statistics, refresh_time_statistics
from repo.rollups.aggregate import ALL, Key
from repo.rollups.fold import SQL as FOLD
from repo.rollups.fold import snapshot_locked
from repo.rollups.store import Store
from repo.rollups.stores import Stores, delete_generations
from repo.rollups.subtract_user import (
    NO_ORDINAL,
    ErasedGeneration,
    ErasedUser,
    UserCounts,
    part_size,
    slots_of_user,
)
from repo.statements import statements
from utils.time.slots import Span, month_number, slot_of, slot_start

SQL = statements("erase")

RIGHTS_MESSAGE = "only the owner of the tables can erase"
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
                    return _Erasure(cur, user_id, first, Stores()).run(is_suppressed=is_suppressed)
        raise DatabaseUnavailable(
            "other transactions kept changing the same events: run this again"
        )


@dataclass(slots=True)
class _Erasure:
    """The erasure of one user, in a transaction that excludes folds."""

    cur: Cursor
    user_id: str
    horizon: int | None
    """The first slot whose events were not dropped; None if none were."""
    stores: Stores

    def run(self, *, is_suppressed: bool) -> Receipt:
        """Erase the user and return the receipt. Raises: DatabaseUnavailable."""
        self._refuse_during_restore()
        self._refuse_or_delete_foreign()
        user = self._read_user(self._next_number())
        changed = self._erase_from(self.stores.from_events, user)
        self._raise_versions(user)
        events = self._delete_events(user)
        self._delete_samples()
        self._bump_cache_versions(user)
        # These are computed from the rollups and the tail, which must be without the user by now.
        changed += self._erase_from(self.stores.from_rollups, user)
        return self._receipt(user, events, changed, is_suppressed=is_suppressed)

    def _refuse_during_restore(self) -> None:
        self.cur.execute(FOLD["fold_is_restored"])
        if self.cur.fetchone() != (True,):
            raise DatabaseUnavailable("events are being restored: erase after that")

    def _refuse_or_delete_foreign(self) -> None:
        """Delete rollups of another cluster, unless they are all that is left of dropped events."""
        if self.horizon is None:
            self.cur.execute(SQL["erase_delete_foreign_generations"])
            delete_generations(self.cur, [generation for (generation,) in self.cur])
            return
        self.cur.execute(SQL["erase_has_foreign_rollups"])
        if self.cur.fetchone() == (True,):
            raise DatabaseUnavailable(
                "rollups of another cluster hold what was dropped: "
                f"run `{invocation('rollup --once')}`, which takes them over, and erase then"
            )

    def _next_number(self) -> int:
        self.cur.execute(SQL["erase_next_number"])
        (number,) = self.cur.fetchone() or (0,)
        return int(number)

    def _read_user(self, erasure: int) -> ErasedUser:
        """Return the user with the events to subtract, counted before they are deleted."""
        self.cur.execute(SQL["erase_generations"])
        generations = [ErasedGeneration(*row) for row in self.cur]
        self.cur.execute(SQL["erase_ordinal"], {"user_id": Hidden(self.user_id)})
        (ordinal,) = self.cur.fetchone() or (NO_ORDINAL,)
        user = ErasedUser(erasure, ordinal, part_size(read_user_count(self.cur)), generations)
        for generation in generations:
            dropped = self._dropped_slots(user, generation)
            user.dropped_slots.update(dropped)
            without_events = (((slot, ALL), 0) for slot in dropped)
            generation.counts = UserCounts(chain(without_events, self._counts(generation)))
        return user

    def _dropped_slots(self, user: ErasedUser, generation: ErasedGeneration) -> list[int]:
        """Return the slots before the horizon whose sets contain the user."""
        if self.horizon is None or generation.first_slot is None:
            return []
        outer = Span(generation.first_slot, self.horizon)
        return list(slots_of_user(self.cur, generation.generation, user.ordinal, outer))

    def _counts(self, generation: ErasedGeneration) -> Iterator[tuple[Key, int]]:
        since = "-infinity" if self.horizon is None else slot_start(self.horizon)
        params = {
            "generation": generation.generation,
            "user_id": Hidden(self.user_id),
            "since": since,
        }
        self.cur.execute(SQL["erase_event_counts"], params)
        for slot, name_id, count in self.cur:
            yield (slot, name_id), count

    def _erase_from(self, stores: Iterable[Store], user: ErasedUser) -> Counter[str]:
        """Remove the user from stores; return how much changed, by unit."""
        return Counter({store.unit: store.erase(self.cur, user) for store in stores})

    def _raise_versions(self, user: ErasedUser) -> None:
        """Invalidate copies of sealed spans in the memory of workers."""
        for generation in user.generations:
            params = {
                "generation": generation.generation,
                "version": generation.version,
                "is_sealed": generation.has_changed_spans,
            }
            self.cur.execute(SQL["erase_version"], params)

    def _delete_events(self, user: ErasedUser) -> int:
        """Delete all events of the user, folded or not, and the ordinal; return their number."""
        params = {"user_id": Hidden(self.user_id)}
        self.cur.execute(SQL["erase_events"], params)
        # Also slots whose events are not folded: cached answers and daily statistics include them.
        counts = self.cur.fetchall()
        user.event_slots.update(slot for slot, _ in counts)
        for name in ("erase_future_events", "erase_user"):
            self.cur.execute(SQL[name], params)
        return sum(count for _, count in counts)

    def _delete_samples(self) -> None:
        """Remove the user from the samples of the planner's statistics."""
        disable_statistics(self.cur)
        refresh_time_statistics(self.cur)

    def _bump_cache_versions(self, user: ErasedUser) -> None:
        """Invalidate cached responses about the months of changed slots."""
        months = sorted(set(map(_month_of_slot, user.changed_slots)))
        for generation in user.generations:
            if generation.is_current:
                params = {"months": months, "version": generation.version}
                self.cur.execute(FOLD["fold_raise_month_versions"], params)

    def _receipt(
        self, user: ErasedUser, events: int, changed: Counter[str], *, is_suppressed: bool
    ) -> Receipt:
        salt = secrets.token_hex(16)
        values: dict[str, Any] = {
            "events": events,
            "slots": changed["slots"],
            "spans": changed["spans"],
            "days": changed["days"],
            "first_month": _first_day(min(user.changed_slots, default=None)),
            "last_month": _first_day(max(user.changed_slots, default=None)),
            "suppressed": is_suppressed,
            "unknown_before": slot_start(self.horizon)
            if self.horizon and user.dropped_slots
            else None,
        }
        # The proof identifies the user only to somebody who has the receipt's salt and the id.
        proof = hashlib.sha256(f"{salt}{self.user_id}".encode()).digest()
        self.cur.execute(SQL["erase_receipt"], {**values, "number": user.erasure, "proof": proof})
        erasure_id, erased_at = self.cur.fetchone() or ()
        adopted = () if is_suppressed else self._adopted_tables()
        return Receipt(
            erasure_id,
            erased_at,
            salt,
            **values,
            columns_pending=user.is_in_columns,
            may_return_from=adopted,
        )

    def _adopted_tables(self) -> tuple[str, ...]:
        self.cur.execute(SQL["erase_adopted_tables"])
        return tuple(name for (name,) in self.cur)


def _month_of_slot(slot: int) -> int:
    return month_number(slot_start(slot))


def _first_day(slot: int | None) -> date | None:
    """Return the first day of the slot's UTC month."""
    return None if slot is None else slot_start(slot).date().replace(day=1)
