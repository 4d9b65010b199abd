"""Drop events older than the horizon; their counts stay in the rollups."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from repo.commit_outcome import commit
from repo.rollups.fold import snapshot_locked
from repo.rollups.store import Horizon, StoreBehind
from repo.rollups.stores import Stores
from repo.statements import statements
from repo.verify.report import Findings
from repo.verify.snapshot import FIRST, Span
from repo.verify.verifiers import chunks, verify_chunk
from utils.time.slots import LEAD, slot_of

SQL = statements("retain")

_RIGHTS_MESSAGE = "only the owner of the tables may do this"
MAX_EVENTS = 10_000  # of one transaction, which an interrupt or a lock conflict rolls back
_MAX_REPORTED = 100_000


class Retention(NamedTuple):
    """The current retention: which events are accepted and which were dropped."""

    now: datetime
    """The database's clock."""
    accepted_from: datetime | None
    """Older events are refused; None if all are accepted."""
    horizon: datetime | None
    """Older events are dropped; None if none are."""


class DroppedBatch(NamedTuple):
    """The result of one transaction of `drop`."""

    events: int
    until: str | None
    """The time up to which events were dropped; None if there was nothing to drop."""


class LockHeld(Exception):
    """Writers did not end in time; the message lists their sessions, oldest first."""


class RetainRepo:
    """Drops old events; each method is one transaction, and `conn` must be in autocommit.

    All methods raise RightsMissing and DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def get(self) -> Retention:
        """Return the current retention."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_state"])
            return Retention(*cur.fetchone() or ())

    def count(self, until: datetime) -> int:
        """Return how many stored events occurred before `until`."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_count"], {"until": until})
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def parts(self, until: datetime) -> list[Span]:
        """Return the months to drop as spans, beginning with the month of the last horizon."""
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
        """Verify a part before it is dropped, since it cannot be recounted afterwards."""
        verify_chunk(self._conn, part, findings)

    def refuse_before(self, until: datetime) -> None:
        """Refuse events that occurred before `until` from now on.

        Running writers end before this returns. Raises: LockHeld.
        """
        self._set_trigger("retain_accepts_from", until)

    def accept_again(self) -> None:
        """Accept refused events again, except those before the horizon. Raises: LockHeld."""
        self._set_trigger("retain_accepts_again", None)

    def publish(self, horizon: Horizon) -> bool:
        """Set the horizon; return False if some older events are not in the stores yet."""
        # Published before the first event is deleted: answers must not depend on a part of them.
        with (
            translate_errors(_RIGHTS_MESSAGE),
            suppress(StoreBehind),
            snapshot_locked(self._conn, with_columns=True) as cur,
        ):
            for store in Stores():
                store.drop_before(cur, horizon)
            cur.execute(SQL["retain_publish"], {"until": horizon.events})
            return True
        return False

    def drop(self, since: str, until: datetime) -> DroppedBatch:
        """Delete the next events between `since` and `until`, at most MAX_EVENTS."""
        with self._transaction() as cur:
            params = {"since": since, "until": until, "limit": MAX_EVENTS}
            cur.execute(SQL["retain_drop"], params)
            return DroppedBatch(*cur.fetchone() or (0, None))

    def vacuum(self) -> None:
        """Vacuum events and columns at the pace of autovacuum, so that the space is reused."""
        with self._cursor() as cur:
            for name in ("delay", "events", "columns"):
                cur.execute(SQL[f"retain_vacuum_{name}"])

    def read_refused_counts(self) -> dict[str, int]:
        """Remove and return the counts of events that triggers have refused, by reason."""
        with self._cursor() as cur:
            cur.execute(SQL["retain_take_refused"], {"limit": _MAX_REPORTED})
            return dict(cur.fetchall())

    def _set_trigger(self, statement: str, until: datetime | None) -> None:
        with self._transaction() as cur:
            # Creating the trigger waits for open transactions of writers, and later ones see it.
            cur.execute(SQL[statement], {"takes_from": until})
            (accepted_from,) = cur.fetchone() or (None,)
            cur.execute(SQL["retain_create_trigger"], {"takes_from": accepted_from})

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
        """Open a transaction. Raises: LockHeld."""
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
            commit(cur, f"up to {MAX_EVENTS:,} more events may have been dropped")
