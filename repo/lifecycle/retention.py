"""Dropping events older than the horizon; what was counted of them stays in the rollups."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from repo.engine.watermark import read_watermark
from repo.rollups.fold import snapshot_locked
from repo.statements import statements
from repo.transactions import commit
from repo.verify.report import Findings
from repo.verify.rollups import chunks, verify_chunk
from repo.verify.snapshot import FIRST, Span
from utils.time.slots import LEAD, slot_of

SQL = statements("retain")

_RIGHTS_MESSAGE = "only the owner of the tables may do this"
MAX_EVENTS = 10_000
"""Events of one transaction."""
_MAX_REPORTED = 100_000


class Retention(NamedTuple):
    """What is so now."""

    now: datetime
    """The database's clock."""
    accepted_from: datetime | None
    """Older events are refused; None: all are taken."""
    horizon: datetime | None
    """Older events are dropped; None: none is."""


class DroppedBatch(NamedTuple):
    """One batch."""

    events: int
    until: str | None
    """The moment that it reaches to; None where there was nothing to drop."""


class LockHeld(Exception):
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
        months = chunks(self._conn)
        clipped = (
            Span(max(month.start, since), min(month.end, slot_of(until))) for month in months
        )
        return [part for part in clipped if part.start < part.end]

    def verify(self, part: Span, findings: Findings) -> None:
        """Recount it, which nobody can do later, and all that is sealed from its days on."""
        verify_chunk(self._conn, part, findings)

    def refuse_before(self, until: datetime) -> None:
        """Events that occurred before are refused from now on, all that others write included.

        Raises: Held.
        """
        self._set_trigger("retain_accepts_from", until)

    def accept_again(self) -> None:
        """Events that are refused and not dropped are taken again. Raises: Held."""
        self._set_trigger("retain_accepts_again", None)

    def publish(self, until: datetime) -> bool:
        """Say that older events are dropped; False where some are not in the rollups yet."""
        with translate_errors(_RIGHTS_MESSAGE), snapshot_locked(self._conn) as cur:
            watermark = read_watermark(cur)
            if watermark is None:
                return False
            cur.execute(SQL["retain_is_counted"], {**watermark.tail, "until": until})
            if cur.fetchone() != (True,):
                return False
            cur.execute(SQL["retain_publish"], {"until": until})
            return True

    def drop(self, since: str, until: datetime) -> DroppedBatch:
        """The next of those that occurred before, from a moment on."""
        with self._transaction() as cur:
            params = {"since": since, "until": until, "most": MAX_EVENTS}
            cur.execute(SQL["retain_drop"], params)
            return DroppedBatch(*cur.fetchone() or (0, None))

    def vacuum(self) -> None:
        """At the pace of autovacuum; the room of what was dropped is used again."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_pace"])
            cur.execute(SQL["retain_vacuum"])

    def read_refused_counts(self) -> dict[str, int]:
        """How many events triggers kept out, by reason; each is told once."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_refused"], {"most": _MAX_REPORTED})
            return dict(cur.fetchall())

    def _set_trigger(self, statement: str, until: datetime | None) -> None:
        with self._transaction() as cur:
            cur.execute(SQL[statement], {"takes_from": until})
            (accepted_from,) = cur.fetchone() or (None,)
            cur.execute(SQL["retain_refuse"], {"takes_from": accepted_from})

    def _holders(self) -> list[str]:
        with self._cursor() as cur:
            cur.execute(SQL["retain_blocking_sessions"])
            return [holder for (holder,) in cur if holder]

    @contextmanager
    def _cursor(self) -> Iterator[cursor]:
        with translate_errors(_RIGHTS_MESSAGE), self._conn.cursor() as cur:
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
                raise LockHeld("; ".join(self._holders())) from None
            except BaseException:
                if not self._conn.closed:
                    cur.execute("rollback")
                raise
            commit(cur, f"up to {MAX_EVENTS:,} more events may be dropped")
