"""Erasing a user: the events, and whatever was made of them, in one transaction."""

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

from common.decorators import translated
from common.receipts import Receipt
from config.database import Cursor
from config.failures import DatabaseUnavailable
from config.invocation import invocation
from repo.activity import Hidden
from repo.identity import read_identity
from repo.rollups import numbers
from repo.rollups.batch import ALL, Key
from repo.rollups.fold import SQL as FOLD
from repo.rollups.fold import snapshot_locked
from repo.rollups.state import State, read_horizon, read_state
from repo.rollups.take import NOBODY, Taken, Taking
from repo.statements import statements
from repo.statistics import refresh_moments, settle_statistics
from utils.slots import Span, month_number, slot_of, slot_start

SQL = statements("erase")

RIGHTS = "only the owner of the tables can erase"
LONG_TAIL = 100_000
"""While so many events are not folded, days are not counted: each would read them all."""
_TRIES = 5
"""Of a transaction that somebody else got in the way of."""


class EraseRepo:
    """Each method is a transaction of its own; `conn` must be in autocommit."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def count(self, user_ids: Sequence[str]) -> int:
        """How many events these users have. Raises: DatabaseUnavailable."""
        with translated(RIGHTS), self._conn.cursor() as cur:
            given = {"user_ids": Hidden(list(user_ids))}
            cur.execute(SQL["erase_count"], given)
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def get_identity(self) -> str | None:
        """Of the database; None without a schema. Raises: DatabaseUnavailable."""
        with translated(RIGHTS), self._conn.cursor() as cur:
            return read_identity(cur)

    def erase(self, user_id: str, *, suppressed: bool = False) -> Receipt:
        """Erase a user, whether there is anything of them or not.

        Events that are committed later are new ones; who is `suppressed` will have none. Of events
        that were dropped only the rollups tell, and they not how many were of whom.

        Raises: DatabaseUnavailable.
        """
        with translated(RIGHTS):
            for _ in range(_TRIES):
                with suppress(errors.SerializationFailure), snapshot_locked(self._conn) as cur:
                    horizon = read_horizon(cur)
                    first = slot_of(horizon) if horizon else None
                    return _Erasure(cur, user_id, first).done(suppressed=suppressed)
        raise DatabaseUnavailable("others changed the same events again and again: repeat it")


class _Generation(NamedTuple):
    """Rollups of this cluster, and the version of what is changed in them now."""

    generation: int
    is_current: bool
    first_slot: int | None
    version: int


@dataclass(slots=True)
class _Erasure:
    """One user, within a transaction in which nobody folds."""

    cur: Cursor
    user_id: str
    horizon: int | None
    """The first slot whose events are not dropped."""
    slots: set[int] = field(default_factory=set)
    """In which there was anything of the user."""
    dropped: set[int] = field(default_factory=set)
    """Those of before the horizon."""
    taken: list[Taken] = field(default_factory=list)

    def done(self, *, suppressed: bool) -> Receipt:
        """Raises: DatabaseUnavailable."""
        self._refuse_during_restore()
        generations = self._generations()
        self._take_from(generations)
        events = self._delete_events()
        self._forget_samples()
        for each in generations:
            if each.is_current:
                self._tell_months(each.version)
        days = numbers.counted_in(self.cur, self.slots)
        self._count_anew(days)
        return self._receipt(events, sum(map(len, days.values())), suppressed=suppressed)

    def _refuse_during_restore(self) -> None:
        self.cur.execute(FOLD["fold_is_restored"])
        if self.cur.fetchone() != (True,):
            raise DatabaseUnavailable("events are being restored: erase when that is done")

    def _generations(self) -> list[_Generation]:
        self._refuse_or_forget_others()
        self.cur.execute(SQL["erase_generations"])
        return [_Generation(*row) for row in self.cur]

    def _refuse_or_forget_others(self) -> None:
        """Rollups of another cluster tell nothing here, unless nothing else does any more."""
        if self.horizon is None:
            self.cur.execute(SQL["erase_forget_others"])
            return
        self.cur.execute(SQL["erase_has_others"])
        if self.cur.fetchone() == (True,):
            raise DatabaseUnavailable(
                "rollups of another cluster hold what was dropped: let "
                f"`{invocation('rollup --once')}` take them over, and erase then"
            )

    def _take_from(self, generations: Sequence[_Generation]) -> None:
        self.cur.execute(SQL["erase_ordinal"], {"user_id": Hidden(self.user_id)})
        (ordinal,) = self.cur.fetchone() or (NOBODY,)
        for each in generations:
            taking = Taking(self.cur, each.generation, each.version, ordinal)
            with self.cur.connection.cursor() as counting:
                counts = self._counts(counting, each)
                taken = taking.take(chain(self._dropped(taking, each), counts))
            self.taken.append(taken)
            given = {"version": each.version, "is_sealed": bool(taken.spans)}
            self.cur.execute(SQL["erase_version"], {"generation": each.generation, **given})
        self.slots |= self.dropped

    def _dropped(self, taking: Taking, each: _Generation) -> Iterator[tuple[Key, int]]:
        """Slots of before the horizon that the user is in: there may be no events to tell."""
        if self.horizon is None or each.first_slot is None:
            return
        for slot in taking.slots_before(Span(each.first_slot, self.horizon)):
            self.dropped.add(slot)
            yield (slot, ALL), 0

    def _counts(self, cur: cursor, each: _Generation) -> Iterator[tuple[Key, int]]:
        since = "-infinity" if self.horizon is None else slot_start(self.horizon)
        given = {"generation": each.generation, "user_id": Hidden(self.user_id), "since": since}
        cur.execute(SQL["erase_counts"], given)
        for slot, name_id, count in cur:
            yield (slot, name_id), count

    def _delete_events(self) -> int:
        """All of them, whether folded or not; and who the user was."""
        given = {"user_id": Hidden(self.user_id)}
        self.cur.execute(SQL["erase_events"], given)
        found = self.cur.fetchall()
        self.slots |= {slot for slot, _ in found}
        for name in ("erase_ahead", "erase_user"):
            self.cur.execute(SQL[name], given)
        return sum(count for _, count in found)

    def _forget_samples(self) -> None:
        """Those that the planner's statistics have of the user."""
        settle_statistics(self.cur)
        refresh_moments(self.cur)

    def _tell_months(self, version: int) -> None:
        """Answers about these are others now."""
        months = sorted(set(map(_month, self.slots)))
        self.cur.execute(FOLD["fold_late"], {"months": months, "version": version})

    def _count_anew(self, days: Mapping[str, list[date]]) -> None:
        state = read_state(self.cur)
        if state is None or self._has_long_tail(state):
            numbers.clear(self.cur, days)
        else:
            numbers.recount(self.cur, state, days)

    def _has_long_tail(self, state: State) -> bool:
        self.cur.execute(FOLD["fold_count"], {**state.tail, "limit": LONG_TAIL})
        return self.cur.fetchone() == (LONG_TAIL,)

    def _receipt(self, events: int, days: int, *, suppressed: bool) -> Receipt:
        salt = secrets.token_hex(16)
        values: dict[str, Any] = {
            "events": events,
            "slots": sum(len(taken.slots) for taken in self.taken),
            "spans": sum(len(taken.spans) for taken in self.taken),
            "days": days,
            "first_month": _first_day(min(self.slots, default=None)),
            "last_month": _first_day(max(self.slots, default=None)),
            "suppressed": suppressed,
            "unknown_before": slot_start(self.horizon) if self.horizon and self.dropped else None,
        }
        proof = hashlib.sha256(f"{salt}{self.user_id}".encode()).digest()
        self.cur.execute(SQL["erase_receipt"], {**values, "proof": proof})
        erasure_id, erased_at = self.cur.fetchone() or ()
        adopted = () if suppressed else self._adopted()
        return Receipt(erasure_id, erased_at, salt, **values, may_return_from=adopted)

    def _adopted(self) -> tuple[str, ...]:
        self.cur.execute(SQL["erase_adopted"])
        return tuple(name for (name,) in self.cur)


def _month(slot: int) -> int:
    return month_number(slot_start(slot))


def _first_day(slot: int | None) -> date | None:
    """Of the month of UTC that the slot is in."""
    return None if slot is None else slot_start(slot).date().replace(day=1)
