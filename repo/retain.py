"""Dropping events older than the horizon; what was counted of them stays in the rollups."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translated
from repo.rollups.fold import snapshot_locked
from repo.rollups.state import read_state
from repo.statements import statements
from repo.transactions import commit
from repo.verify.check import chunks, verify_chunk
from repo.verify.findings import Findings
from repo.verify.snapshot import FIRST, Span
from utils.slots import LEAD, slot_of

SQL = statements("retain")

_RIGHTS = "only the owner of the tables may do this"
AT_ONCE = 10_000
"""Events of one transaction."""
_TOLD_AT_ONCE = 100_000


class Retention(NamedTuple):
    """What is so now."""

    now: datetime
    """The database's clock."""
    takes_from: datetime | None
    """Older events are refused; None: all are taken."""
    horizon: datetime | None
    """Older events are dropped; None: none is."""


class Dropped(NamedTuple):
    """One batch."""

    events: int
    until: str | None
    """The moment that it reaches to; None where there was nothing to drop."""


class Held(Exception):
    """Others write, and did not end in time; the text tells who, oldest first."""


class RetainRepo:
    """Each method is a transaction of its own; `conn` must be in autocommit.

    All raise: DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def get(self) -> Retention:
        with self._cursor() as cur:
            cur.execute(SQL["retain_state"])
            return Retention(*cur.fetchone() or ())

    def count(self, until: datetime) -> int:
        """How many events occurred before, though they may be dropped."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_count"], {"until": until})
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def parts(self, until: datetime) -> list[Span]:
        """What is about to be dropped, with the month of the last horizon, in slots of months."""
        horizon = self.get().horizon
        if horizon and horizon >= until:
            return []
        since = slot_of(horizon) - LEAD if horizon else FIRST
        found = chunks(self._conn)
        cut = (Span(max(c.start, since), min(c.end, slot_of(until))) for c in found)
        return [part for part in cut if part.start < part.end]

    def verify(self, part: Span, findings: Findings) -> None:
        """Recount it, which nobody can do later, and all that is sealed from its days on."""
        verify_chunk(self._conn, part, findings)

    def refuse(self, until: datetime) -> None:
        """Events that occurred before are refused from now on, all that others write included.

        Raises: Held.
        """
        self._set_trigger("retain_takes_from", until)

    def take_again(self) -> None:
        """Events that are refused and not dropped are taken again. Raises: Held."""
        self._set_trigger("retain_takes_again", None)

    def publish(self, until: datetime) -> bool:
        """Say that older events are dropped; False where some are not in the rollups yet."""
        with translated(_RIGHTS), snapshot_locked(self._conn) as cur:
            state = read_state(cur)
            if state is None:
                return False
            cur.execute(SQL["retain_is_counted"], {**state.tail, "until": until})
            if cur.fetchone() != (True,):
                return False
            cur.execute(SQL["retain_publish"], {"until": until})
            return True

    def drop(self, since: str, until: datetime) -> Dropped:
        """The next of those that occurred before, from a moment on."""
        with self._transaction() as cur:
            given = {"since": since, "until": until, "most": AT_ONCE}
            cur.execute(SQL["retain_drop"], given)
            return Dropped(*cur.fetchone() or (0, None))

    def vacuum(self) -> None:
        """At the pace of autovacuum; the room of what was dropped is used again."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_pace"])
            cur.execute(SQL["retain_vacuum"])

    def take_refused(self) -> dict[str, int]:
        """How many events triggers kept out, by reason; each is told once."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_refused"], {"most": _TOLD_AT_ONCE})
            return dict(cur.fetchall())

    def _set_trigger(self, statement: str, until: datetime | None) -> None:
        with self._transaction() as cur:
            cur.execute(SQL[statement], {"takes_from": until})
            (takes_from,) = cur.fetchone() or (None,)
            cur.execute(SQL["retain_refuse"], {"takes_from": takes_from})

    def _holders(self) -> list[str]:
        with self._cursor() as cur:
            cur.execute(SQL["retain_waits_for"])
            return [holder for (holder,) in cur if holder]

    @contextmanager
    def _cursor(self) -> Iterator[cursor]:
        with translated(_RIGHTS), self._conn.cursor() as cur:
            yield cur

    @contextmanager
    def _transaction(self) -> Iterator[cursor]:
        """Raises: Held."""
        with self._cursor() as cur:
            cur.execute("begin")
            try:
                yield cur
            except errors.LockNotAvailable:
                cur.execute("rollback")
                raise Held("; ".join(self._holders())) from None
            except BaseException:
                if not self._conn.closed:
                    cur.execute("rollback")
                raise
            commit(cur, f"up to {AT_ONCE:,} more events may be dropped")
