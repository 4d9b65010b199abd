"""Taking what is not folded: all of it, or of very many the oldest."""

from collections.abc import Mapping
from typing import Any

from psycopg2.extensions import cursor

from repo.rollups.batch import Rows, last_of, rows_of
from repo.rollups.fold import SQL, Progress
from repo.rollups.state import MANY
from repo.rollups.tables import copied
from repo.rollups.waiting import NOT_SWEEPING, Swept, waiting

MOST = 500_000
"""Events of one transaction, which bounds its memory."""
_PROBE, _DENSE = 20_000, 1 / 10
"""Where so many of the next events wait, all are read; elsewhere all that wait."""
_AMONG = 4
"""So many times as many events are read for those that wait, and not more."""


class Taker:
    """Takes for one folder."""

    def __init__(self, most: int) -> None:
        self._most = most

    def take(self, cur: cursor, progress: Progress) -> list[Rows]:
        """What is to be folded in this transaction, with events that have not occurred yet."""
        given = {"generation": progress.generation, "until": progress.now, "most": self._most}
        cur.execute(SQL["fold_ripe_until"], given)
        (progress.until,) = cur.fetchone() or (progress.now,)
        return [self._next(cur, progress), _rows(cur, progress, "fold_take_ripe", {})]

    def _next(self, cur: cursor, progress: Progress) -> Rows:
        if not progress.is_sweeping:
            tail = waiting(progress.sees, progress.snapshot)
            cur.execute(SQL["fold_count"], {**tail, "limit": self._most + 1})
            (count,) = cur.fetchone() or (0,)
            if count <= self._most:
                progress.snapshot = progress.sees
                return _rows(cur, progress, "fold_take", tail, are_many=count >= MANY)
            progress.sweeping_to = progress.sees
        return self._sweep(cur, progress)

    def _sweep(self, cur: cursor, progress: Progress) -> Rows:
        """In the order of time. Where the events that wait stand close, those between them are read
        as well; where others are before them, all that is left of it is read and sorted, which
        leaps over these.
        """
        share = {
            "folded": progress.snapshot.text,
            "sweeping_to": progress.sweeping_to.text,
            "swept_until": progress.swept.until,
            "swept_id": progress.swept.event_id,
            "most": self._most,
            "among": _AMONG * self._most,
            **waiting(progress.sweeping_to, progress.snapshot),
        }
        if self._is_dense(cur, share):
            rows = _rows(cur, progress, "fold_take_dense", share, are_many=True)
            if len(rows):
                progress.swept = _swept(rows)
                return rows
        rows = _rows(cur, progress, "fold_take_sparse", share, are_many=True)
        if len(rows) < self._most:
            progress.snapshot, progress.swept = progress.sweeping_to, NOT_SWEEPING
        else:
            progress.swept = _swept(rows)
        return rows

    def _is_dense(self, cur: cursor, share: Mapping[str, Any]) -> bool:
        cur.execute(SQL["fold_density"], {**share, "probe": _PROBE})
        (count,) = cur.fetchone() or (0,)
        return bool(count >= _PROBE * _DENSE)


def _swept(rows: Rows) -> Swept:
    moment, event_id = last_of(rows)
    return Swept(moment.isoformat(), str(event_id))


def _rows(
    cur: cursor,
    progress: Progress,
    source: str,
    given: Mapping[str, Any],
    *,
    are_many: bool = False,
) -> Rows:
    """What a statement takes; the users of many are looked up all at once."""
    users = SQL["fold_users_all" if are_many else "fold_users_each"]
    text = SQL["fold_batch"].replace("{source}", SQL[source]).replace("{users}", users)
    own = {"generation": progress.generation, "until": progress.until}
    return rows_of(copied(cur, text, {**given, **own}))
