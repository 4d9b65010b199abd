"""The denylist of suppressed users: digests of their ids, which a trigger on events checks."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain, repeat
from typing import NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors
from repo.commit_outcome import commit
from repo.hide_from_pg_stat_activity import Hidden
from repo.lifecycle.erasure import RIGHTS_MESSAGE
from repo.statements import statements

SQL = statements("suppression")

# The time that each attempt waits for the lock, while new writers queue behind it, and that of the
# pause after it. They become longer, since with many long transactions a short wait never
# succeeds.
_LOCK_TIMEOUTS_S = (0.2, 0.2, 0.4, 0.8, 1.6, 3.2)


class WritersActive(Exception):
    """Transactions that write events did not end in time, so the denylist was not changed."""


class DenyListState(NamedTuple):
    """The number of suppressed users, and when the first of them was added."""

    users: int
    since: datetime | None


class SuppressionRepo:
    """Changes the denylist; each method is one transaction, and `conn` must be in autocommit.

    All methods raise RightsMissing and DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def get_state(self) -> DenyListState:
        """Return the number of suppressed users."""
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["suppression_count"])
            return DenyListState(*cur.fetchone() or (0, None))

    def add(self, user_ids: Iterable[str], timeout_s: float) -> None:
        """Suppress users: none of their events is stored from now on. Raises: WritersActive."""
        params = {"digests": Hidden(list(map(_digest, user_ids)))}
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["suppression_missing"], params)
            if cur.rowcount:
                _with_exclusive_lock(
                    cur, timeout_s, lambda: cur.execute(SQL["suppression_add"], params)
                )

    def remove(self, user_ids: Iterable[str], timeout_s: float) -> int:
        """Accept events of these users again; return how many were suppressed.

        Raises: WritersActive.
        """
        params = {"digests": Hidden(list(map(_digest, user_ids)))}
        removed = 0

        def remove() -> None:
            nonlocal removed
            cur.execute(SQL["suppression_remove"], params)
            removed = cur.rowcount

        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            _with_exclusive_lock(cur, timeout_s, remove)
        return removed


def _digest(user_id: str) -> bytes:
    return hashlib.sha256(user_id.encode()).digest()


def _with_exclusive_lock(cur: cursor, timeout_s: float, change: Callable[[], None]) -> None:
    """Change the denylist while no transaction writes events. Raises: WritersActive."""
    # A transaction that is open might insert events of a user who is being added, since its
    # snapshot does not show the denylist: the lock waits for its end.
    deadline = time.monotonic() + timeout_s
    for lock_timeout_s in chain(_LOCK_TIMEOUTS_S, repeat(_LOCK_TIMEOUTS_S[-1])):
        with suppress(errors.LockNotAvailable, errors.DeadlockDetected), _transaction(cur):
            cur.execute(SQL["suppression_lock"], {"lock_timeout_ms": int(lock_timeout_s * 1000)})
            change()
            _install_trigger(cur)
            return
        if time.monotonic() + 2 * lock_timeout_s > deadline:
            raise WritersActive
        time.sleep(lock_timeout_s)


@contextmanager
def _transaction(cur: cursor) -> Iterator[None]:
    cur.execute("begin")
    try:
        yield
    except BaseException:
        if not cur.connection.closed:
            cur.execute("rollback")
        raise
    commit(cur, "the denylist may have been changed")


def _prefilter(prefixes: Iterable[int]) -> bytes:
    """Return a bitmap of prefixes of 12 bits, in the bit order of PostgreSQL's `get_bit`."""
    bits = bytearray(2**12 // 8)
    for prefix in prefixes:
        bits[prefix // 8] |= 1 << prefix % 8
    return bytes(bits)


def _install_trigger(cur: cursor) -> None:
    """Create the trigger on events with the current prefilter, or drop it if no user is left."""
    # The trigger runs for each event. Its prefilter lets most events pass without a query.
    cur.execute(SQL["suppression_state"])
    users, xid, cluster = cur.fetchone() or (0, "", "")
    if users:
        cur.execute(SQL["suppression_prefilter"])
        prefilter = _prefilter(prefix for (prefix,) in cur.fetchall())
        params = {"prefilter": prefilter, "xid": xid, "cluster": cluster}
        cur.execute(SQL["suppression_enable"], params)
    else:
        cur.execute(SQL["suppression_disable"])
