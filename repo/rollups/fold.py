"""Folding: what is committed and not folded yet is added to the rollups, each event just once.

One transaction folds all events that its snapshot sees and the snapshot of the last fold did not,
and stores its own. So neither the order in which writers commit nor how long they take matters.
Of very many events it takes the oldest, and stores how far it came: a sweep.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg2.extensions import connection, cursor

from common.answers import SETTLED_AFTER
from config.database import Cursor
from config.failures import DatabaseUnavailable
from repo.rollups import telling
from repo.rollups.batch import Batch
from repo.rollups.tables import add_slots, add_spans, copied
from repo.statements import statements

SQL = statements("fold")

MOST = 500_000
"""Events of one transaction, which bounds its memory."""
_NOT_SWEEPING = ("-infinity", "00000000-0000-0000-0000-000000000000")
_WAITED = timedelta(minutes=2)
"""How much older the time of a fold may be than what it sees: it may have waited for the lock."""


class Snapshot(NamedTuple):
    """Which transactions a snapshot does not see: from xmax on, and some before."""

    text: str

    @property
    def xmax(self) -> str:
        return self.text.split(":")[1]

    @property
    def xip(self) -> str:
        return "{" + self.text.split(":")[2] + "}"


NOTHING_FOLDED = Snapshot("3:3:")


@dataclass(slots=True)
class Progress:
    """The row of fold_state, and what its transaction sees."""

    generation: int
    is_current: bool
    is_told: bool
    """Whether what it folds was not counted before."""
    now: datetime
    """Never before that of the last fold, whatever became of the clock."""
    until: datetime
    """Up to where slots are to hold events: not up to now where very many wait for their time."""
    sees: Snapshot
    snapshot: Snapshot
    sweeping_to: Snapshot
    swept_until: str
    """When the last event that was swept occurred, and which one it was."""
    swept_id: str
    version: int
    sealed: int
    first_slot: int | None
    touched: frozenset[int] = frozenset()
    """The slots that events were added to."""
    first_slot_before: int | None = None
    """Where there were events before that were the first."""

    @property
    def is_sweeping(self) -> bool:
        return (self.swept_until, self.swept_id) != _NOT_SWEEPING

    @property
    def is_behind(self) -> bool:
        """Whether there is more to fold at once."""
        return self.is_sweeping or self.until < self.now

    @property
    def is_level(self) -> bool:
        """Whether all is folded that this transaction sees, and so all that others folded."""
        return self.snapshot == self.sees


class Gone(LookupError):
    """Another generation has taken the place of this one."""


class Lost(DatabaseUnavailable):
    """Events were dropped, and what was counted of them is gone: it is only in a backup."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@contextmanager
def snapshot_locked(conn: connection) -> Iterator[Cursor]:
    """A transaction in which nobody else folds, seals or counts."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["fold_tables"])
        try:
            cur.execute(SQL["fold_lock"])
            cur.execute(SQL["fold_now"])
            (cur.as_of,) = cur.fetchone() or ()
            yield cur
        except BaseException:
            if not conn.closed:
                cur.execute("rollback")
            raise
        cur.execute("commit")


def begin(cur: cursor) -> int:
    """A new generation, in a transaction of `snapshot_locked`. Raises: Lost."""
    cur.execute(SQL["fold_has_lost"])
    if cur.fetchone() != (False,):
        raise Lost
    cur.execute(SQL["fold_begin"])
    (generation,) = cur.fetchone() or (0,)
    cur.execute(SQL["fold_keep"], {"generation": generation})
    telling.forget_foreign(cur)
    return int(generation)


@contextmanager
def locked(conn: connection, generation: int) -> Iterator[tuple[cursor, Progress]]:
    """The same, for a generation. Raises: Gone."""
    with snapshot_locked(conn) as cur:
        yield cur, _progress(cur, generation)


def _progress(cur: cursor, generation: int) -> Progress:
    cur.execute(SQL["fold_state"], {"generation": generation})
    row = cur.fetchone()
    if row is None:
        raise Gone
    found, is_current, is_told, now, sees, snapshot, sweeping_to, *rest = row
    seen = (Snapshot(sees), Snapshot(snapshot), Snapshot(sweeping_to))
    return Progress(found, is_current, is_told, now, now, *seen, *rest)


def fold(cur: cursor, progress: Progress, most: int) -> int:
    """Take what is not folded, or the oldest of it; tell how many events. To be stored after."""
    _take(cur, progress, most)
    given = {"generation": progress.generation, "until": progress.now}
    cur.execute(SQL["fold_ripe_until"], {**given, "most": most})
    (progress.until,) = cur.fetchone() or (progress.now,)
    given["until"] = progress.until
    for name in ("fold_ripe", "fold_ahead", "fold_users", "fold_names"):
        cur.execute(SQL[name], given)
    batch = Batch(copied(cur, SQL["fold_batch"]))
    progress.version = max(progress.version + 1, int(progress.now.timestamp() * 1_000_000))
    if len(batch):
        _add(cur, progress, batch)
    return len(batch)


def store(cur: cursor, progress: Progress) -> None:
    """The last thing that a transaction of `locked` does, which must have folded."""
    values: dict[str, Any] = {
        "generation": progress.generation,
        "snapshot": progress.snapshot.text,
        "sweeping_to": progress.sweeping_to.text,
        "swept_until": progress.swept_until,
        "swept_id": progress.swept_id,
        "folded_at": progress.until,
        "version": progress.version,
        "sealed": progress.sealed,
        "first_slot": progress.first_slot,
    }
    cur.execute(SQL["fold_store"], values)


def _take(cur: cursor, progress: Progress, most: int) -> None:
    tail = {"xmax": progress.snapshot.xmax, "xip": progress.snapshot.xip}
    if not progress.is_sweeping:
        cur.execute(SQL["fold_count"], {**tail, "limit": most + 1})
        (count,) = cur.fetchone() or (0,)
        if count <= most:
            cur.execute(SQL["fold_take"], tail)
            progress.snapshot = progress.sees
            return
        progress.sweeping_to = progress.sees
    _sweep(cur, progress, tail, most)


def _sweep(cur: cursor, progress: Progress, tail: dict[str, str], most: int) -> None:
    swept = {
        "swept_xmax": progress.sweeping_to.xmax,
        "swept_xip": progress.sweeping_to.xip,
        "swept_until": progress.swept_until,
        "swept_id": progress.swept_id,
        "most": most,
    }
    cur.execute(SQL["fold_take_swept"], {**tail, **swept})
    swept_to = _NOT_SWEEPING
    if cur.rowcount < most:
        progress.snapshot = progress.sweeping_to
    else:
        cur.execute(SQL["fold_swept"])
        swept_to = cur.fetchone() or swept_to
    progress.swept_until, progress.swept_id = swept_to


def _add(cur: cursor, progress: Progress, batch: Batch) -> None:
    deltas = batch.deltas()
    progress.touched = frozenset(slot for slot, _ in deltas)
    first = min(progress.touched)
    if progress.first_slot is None or first < progress.first_slot:
        progress.first_slot_before, progress.first_slot = progress.first_slot, first
    if add_spans(cur, progress.generation, progress.version, deltas):
        progress.sealed = progress.version
    add_slots(cur, progress.generation, deltas)
    if progress.is_told:
        telling.add(cur, batch.names())
    late = batch.months_before(progress.now - SETTLED_AFTER + _WAITED)
    if late and progress.is_current:
        cur.execute(SQL["fold_late"], {"months": late, "version": progress.version})
