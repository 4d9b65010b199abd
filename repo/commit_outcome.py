"""The outcome of a commit whose reply was lost: transactions of commands look it up."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection, cursor

from config.database import CommandConnection
from config.database_errors import DatabaseUnavailable
from repo.statements import statements

SQL = statements("commit_outcome")

# Enough for a server that restarts after a crash.
_STATUS_TIMEOUT_S = 10.0
_PAUSE_S = 0.2


class OutcomeUnknown(DatabaseUnavailable):
    """The connection was lost during a commit, and its outcome cannot be determined."""

    def __init__(self, at_stake: str) -> None:
        """`at_stake` says what the transaction has done if it was committed."""
        super().__init__(
            "the connection to PostgreSQL was lost during a commit, whose outcome is unknown: "
            f"{at_stake}"
        )


@contextmanager
def transaction(conn: connection, at_stake: str) -> Iterator[cursor]:
    """Run the block in a transaction, which is committed at its end or rolled back by an exception.

    Raises: OutcomeUnknown; psycopg2.Error if it is certain that nothing was committed.
    """
    with conn.cursor() as cur:
        try:
            if conn.autocommit:
                cur.execute("begin")
            yield cur
        except BaseException:
            _roll_back(cur)
            raise
        commit(cur, at_stake)


def commit(cur: cursor, at_stake: str) -> None:
    """Commit the cursor's transaction; if the connection is lost, look up the outcome on another.

    Raises: OutcomeUnknown; psycopg2.Error if it is certain that nothing was committed.
    """
    # The id of the transaction must be read before the commit. It is null if nothing was written.
    cur.execute(SQL["commit_outcome_own_id"])
    (xid,) = cur.fetchone() or (None,)
    try:
        _commit(cur)
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        conn = cur.connection
        if xid is None or not conn.closed:
            raise
        was_committed = _was_committed(conn, xid)
        if was_committed is None:
            raise OutcomeUnknown(at_stake) from None
        if not was_committed:
            raise


def _commit(cur: cursor) -> None:
    if cur.connection.autocommit:
        cur.execute("commit")
    else:
        cur.connection.commit()


def _roll_back(cur: cursor) -> None:
    if cur.connection.closed:
        return
    if cur.connection.autocommit:
        cur.execute("rollback")
    else:
        cur.connection.rollback()


def _was_committed(conn: connection, xid: str) -> bool | None:
    """Return whether the transaction was committed; None if that cannot be determined in time."""
    if not isinstance(conn, CommandConnection):
        return None
    deadline = time.monotonic() + _STATUS_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(DatabaseUnavailable, psycopg2.Error):
            # The server may not have noticed yet that the old connection is gone.
            status = _status(conn, xid)
            if status != "in progress":
                return None if status is None else status == "committed"
        time.sleep(_PAUSE_S)
    return None


def _status(conn: CommandConnection, xid: str) -> str | None:
    """Return the status of a transaction; None if it is too old. Raises: psycopg2.Error."""
    with closing(conn.reopen()) as new_conn, new_conn.cursor() as cur:
        cur.execute(SQL["commit_outcome_status"], {"xid": xid})
        (status,) = cur.fetchone() or (None,)
        return None if status is None else str(status)
