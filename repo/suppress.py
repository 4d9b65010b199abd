"""The list of users whose events are not to come back: digests, which a trigger on events asks."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain, repeat
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translated
from repo.activity import Hidden
from repo.erase import RIGHTS
from repo.statements import statements
from repo.transactions import commit

SQL = statements("suppress")

_PATIENCE_S = (0.2, 0.2, 0.4, 0.8, 1.6, 3.2)
"""How long each try waits, and others wait behind it: the last ones last longer, since where many
write long transactions there is never a moment without any. As long is the pause after each."""


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
        with translated(RIGHTS), self._conn.cursor() as cur:
            cur.execute(SQL["suppress_count"])
            return Listed(*cur.fetchone() or (0, None))

    def add(self, user_ids: Iterable[str], within_s: float) -> None:
        """From now on nobody's event of these users comes in, that of who is writing included.

        Raises: WritersAtWork.
        """
        given = {"digests": Hidden(list(map(_digest, user_ids)))}
        with translated(RIGHTS), self._conn.cursor() as cur:
            cur.execute(SQL["suppress_missing"], given)
            if cur.rowcount:
                _alone(cur, within_s, lambda: cur.execute(SQL["suppress_add"], given))

    def remove(self, user_ids: Iterable[str], within_s: float) -> int:
        """Events of these users are taken again; tell how many were on the list.

        Raises: WritersAtWork.
        """
        given = {"digests": Hidden(list(map(_digest, user_ids)))}
        removed = 0

        def remove() -> None:
            nonlocal removed
            cur.execute(SQL["suppress_remove"], given)
            removed = cur.rowcount

        with translated(RIGHTS), self._conn.cursor() as cur:
            _alone(cur, within_s, remove)
        return removed


def _digest(user_id: str) -> bytes:
    return hashlib.sha256(user_id.encode()).digest()


def _alone(cur: cursor, within_s: float, change: Callable[[], None]) -> None:
    """Change the list while nobody writes events, and have it watched. Raises: WritersAtWork."""
    deadline = time.monotonic() + within_s
    for patience_s in chain(_PATIENCE_S, repeat(_PATIENCE_S[-1])):
        with suppress(errors.LockNotAvailable, errors.DeadlockDetected), _transaction(cur):
            cur.execute(SQL["suppress_lock"], {"patience_ms": int(patience_s * 1000)})
            change()
            _watch(cur)
            return
        if time.monotonic() + 2 * patience_s > deadline:
            raise WritersAtWork
        time.sleep(patience_s)


@contextmanager
def _transaction(cur: cursor) -> Iterator[None]:
    cur.execute("begin")
    try:
        yield
    except BaseException:
        if not cur.connection.closed:
            cur.execute("rollback")
        raise
    commit(cur, "the list of suppressed users may be changed")


def _sieve(firsts: Iterable[int]) -> bytes:
    """A bit for each number of 12 bits, as `get_bit` counts them."""
    bits = bytearray(2**12 // 8)
    for first in firsts:
        bits[first // 8] |= 1 << first % 8
    return bytes(bits)


def _watch(cur: cursor) -> None:
    """The trigger costs something with each event: it is there for as long as it is needed."""
    cur.execute(SQL["suppress_state"])
    users, xid, cluster = cur.fetchone() or (0, "", "")
    if users:
        cur.execute(SQL["suppress_sieve"])
        sieve = _sieve(first for (first,) in cur.fetchall())
        given = {"sieve": sieve, "xid": xid, "cluster": cluster}
        cur.execute(SQL["suppress_watch"], given)
    else:
        cur.execute(SQL["suppress_watch_no_more"])
