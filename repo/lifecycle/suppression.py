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

from common.decorators import translate_errors
from repo.hidden_values import Hidden
from repo.lifecycle.erasure import RIGHTS_MESSAGE
from repo.statements import statements
from repo.transactions import commit

SQL = statements("suppression")

_LOCK_TIMEOUTS_S = (0.2, 0.2, 0.4, 0.8, 1.6, 3.2)
"""How long each try waits, and others wait behind it: the last ones last longer, since where many
write long transactions there is never a moment without any. As long is the pause after each."""


class WritersActive(Exception):
    """Somebody has been writing events all the time: a transaction that must end first."""


class DenyListState(NamedTuple):
    """How many users are on the list, and since when the first of them is."""

    users: int
    since: datetime | None


class SuppressionRepo:
    """Each method is a transaction of its own; `conn` must be in autocommit.

    All raise: DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    def get_state(self) -> DenyListState:
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["suppression_count"])
            return DenyListState(*cur.fetchone() or (0, None))

    def add(self, user_ids: Iterable[str], timeout_s: float) -> None:
        """From now on nobody's event of these users comes in, that of who is writing included.

        Raises: WritersAtWork.
        """
        params = {"digests": Hidden(list(map(_digest, user_ids)))}
        with translate_errors(RIGHTS_MESSAGE), self._conn.cursor() as cur:
            cur.execute(SQL["suppression_missing"], params)
            if cur.rowcount:
                _with_exclusive_lock(
                    cur, timeout_s, lambda: cur.execute(SQL["suppression_add"], params)
                )

    def remove(self, user_ids: Iterable[str], timeout_s: float) -> int:
        """Events of these users are taken again; tell how many were on the list.

        Raises: WritersAtWork.
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
    """Change the list while nobody writes events, and have it watched. Raises: WritersAtWork."""
    deadline = time.monotonic() + timeout_s
    for lock_timeout_s in chain(_LOCK_TIMEOUTS_S, repeat(_LOCK_TIMEOUTS_S[-1])):
        with suppress(errors.LockNotAvailable, errors.DeadlockDetected), _transaction(cur):
            cur.execute(SQL["suppression_lock"], {"patience_ms": int(lock_timeout_s * 1000)})
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
    commit(cur, "the list of suppressed users may be changed")


def _prefilter(prefixes: Iterable[int]) -> bytes:
    """A bit for each number of 12 bits, as `get_bit` counts them."""
    bits = bytearray(2**12 // 8)
    for prefix in prefixes:
        bits[prefix // 8] |= 1 << prefix % 8
    return bytes(bits)


def _install_trigger(cur: cursor) -> None:
    """The trigger costs something with each event: it is there for as long as it is needed."""
    cur.execute(SQL["suppression_state"])
    users, xid, cluster = cur.fetchone() or (0, "", "")
    if users:
        cur.execute(SQL["suppression_prefilter"])
        prefilter = _prefilter(prefix for (prefix,) in cur.fetchall())
        params = {"sieve": prefilter, "xid": xid, "cluster": cluster}
        cur.execute(SQL["suppression_enable"], params)
    else:
        cur.execute(SQL["suppression_disable"])
