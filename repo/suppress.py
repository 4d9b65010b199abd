"""The list of users whose events are not to come back: digests, which a trigger on events asks."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from repo.erase import translated
from repo.statements import statements

SQL = statements("suppress")

_PAUSE_S = 0.3
"""Between two tries, so that those who began to write meanwhile go on."""


class WritersAtWork(Exception):
    """Somebody has been writing events all the time: a transaction that must end first."""


class Listed(NamedTuple):
    """How many users are on the list, and since when the first of them is."""

    users: int
    since: datetime | None


class SuppressionRepo:
    """Each method is a transaction of its own; `conn` must be in autocommit.

    All raise: DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def get(self) -> Listed:
        with translated(), self._conn.cursor() as cur:
            cur.execute(SQL["suppress_count"])
            return Listed(*cur.fetchone() or (0, None))

    def add(self, user_ids: Iterable[str], within_s: float) -> None:
        """From now on nobody's event of these users comes in, that of who is writing included.

        Raises: WritersAtWork.
        """
        given = {"digests": list(map(_digest, user_ids))}
        with translated(), self._conn.cursor() as cur:
            cur.execute(SQL["suppress_missing"], given)
            if cur.rowcount:
                _alone(cur, within_s, lambda: cur.execute(SQL["suppress_add"], given))

    def remove(self, user_ids: Iterable[str], within_s: float) -> int:
        """Events of these users are taken again; tell how many were on the list.

        Raises: WritersAtWork.
        """
        given = {"digests": list(map(_digest, user_ids))}
        removed = 0

        def remove() -> None:
            nonlocal removed
            cur.execute(SQL["suppress_remove"], given)
            removed = cur.rowcount

        with translated(), self._conn.cursor() as cur:
            _alone(cur, within_s, remove)
        return removed


def _digest(user_id: str) -> bytes:
    return hashlib.sha256(user_id.encode()).digest()


def _alone(cur: cursor, within_s: float, change: Callable[[], None]) -> None:
    """Change the list while nobody writes events, and have it watched. Raises: WritersAtWork."""
    deadline = time.monotonic() + within_s
    while True:
        with suppress(errors.LockNotAvailable), _transaction(cur):
            cur.execute(SQL["suppress_lock"])
            change()
            _watch(cur)
            return
        if time.monotonic() + _PAUSE_S > deadline:
            raise WritersAtWork
        time.sleep(_PAUSE_S)


@contextmanager
def _transaction(cur: cursor) -> Iterator[None]:
    cur.execute("begin")
    try:
        yield
    except BaseException:
        if not cur.connection.closed:
            cur.execute("rollback")
        raise
    cur.execute("commit")


def _watch(cur: cursor) -> None:
    """The trigger costs something with each event: it is there for as long as it is needed."""
    cur.execute(SQL["suppress_state"])
    users, xid, cluster = cur.fetchone() or (0, "", "")
    if users:
        cur.execute(SQL["suppress_watch"], {"xid": xid, "cluster": cluster})
    else:
        cur.execute(SQL["suppress_watch_no_more"])
