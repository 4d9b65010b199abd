"""Taking what is not folded: all of it, or of very many the oldest."""

import math
from collections.abc import Mapping
from typing import Any

from psycopg2.extensions import cursor

from repo.rollups.batch import Rows, last_of, rows_of
from repo.rollups.fold import SQL, Progress
from repo.rollups.state import MANY
from repo.rollups.tables import copied
from repo.rollups.waiting import NOT_SWEEPING, Snapshot, Swept, waiting

MOST = 500_000
"""Events of one transaction, which bounds its memory."""
_ROW_BYTES = 150
"""Of an event with few properties."""


class Taker:
    """Takes for one folder, and remembers how each sweep is read best."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._are_dense: dict[Snapshot, bool] = {}

    def take(self, cur: cursor, progress: Progress) -> list[Rows]:
        """What is to be folded in this transaction, with events that have not occurred yet."""
        given = {"generation": progress.generation, "until": progress.now, "most": self._most}
        cur.execute(SQL["fold_ripe_until"], given)
        (progress.until,) = cur.fetchone() or (progress.now,)
        return [self._next(cur, progress), _rows(cur, progress, SQL["fold_take_ripe"], {})]

    def _next(self, cur: cursor, progress: Progress) -> Rows:
        if not progress.is_sweeping:
            tail = waiting(progress.sees, progress.snapshot)
            count = _count(cur, tail, self._most + 1)
            if count <= self._most:
                progress.snapshot = progress.sees
                return _rows(cur, progress, SQL["fold_take"], tail, are_many=count > MANY)
            progress.sweeping_to = progress.sees
        return self._sweep(cur, progress)

    def _sweep(self, cur: cursor, progress: Progress) -> Rows:
        share = {
            "folded": progress.snapshot.text,
            "sweeping_to": progress.sweeping_to.text,
            "swept_until": progress.swept.until,
            "swept_id": progress.swept.event_id,
            "most": self._most,
            **waiting(progress.sweeping_to, progress.snapshot),
        }
        name = "fold_take_dense" if self._is_dense(cur, progress) else "fold_take_sparse"
        rows = _rows(cur, progress, SQL[name], share, are_many=True)
        if len(rows) < self._most:
            progress.snapshot, progress.swept = progress.sweeping_to, NOT_SWEEPING
        else:
            moment, event_id = last_of(rows)
            progress.swept = Swept(moment.isoformat(), str(event_id))
        return rows

    def _is_dense(self, cur: cursor, progress: Progress) -> bool:
        """Whether it costs less to read all events once, in the order of time, than in each step
        all that is left of those that wait: n events of m in steps of k are n * n / 2k reads and
        a sort, which costs as much again.
        """
        if progress.sweeping_to not in self._are_dense:
            cur.execute(SQL["fold_size"])
            (size,) = cur.fetchone() or (0,)
            enough = math.isqrt(self._most * size // _ROW_BYTES) + 1
            tail = waiting(progress.sweeping_to, progress.snapshot)
            self._are_dense = {progress.sweeping_to: _count(cur, tail, enough) == enough}
        return self._are_dense[progress.sweeping_to]


def _count(cur: cursor, tail: Mapping[str, Any], most: int) -> int:
    """How many wait, up to a limit."""
    cur.execute(SQL["fold_count"], {**tail, "limit": most})
    (count,) = cur.fetchone() or (0,)
    return int(count)


def _rows(
    cur: cursor,
    progress: Progress,
    source: str,
    given: Mapping[str, Any],
    *,
    are_many: bool = False,
) -> Rows:
    """What a statement takes."""
    many = SQL["fold_many"] if are_many else ""
    text = SQL["fold_batch"].replace("{source}", f"{source}\n{many}")
    own = {"generation": progress.generation, "until": progress.until}
    return rows_of(copied(cur, text, {**given, **own}))
