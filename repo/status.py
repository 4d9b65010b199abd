"""Read the state of a database for `status`, in one read-only snapshot."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, cast

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import driver_message, translate_errors
from config.database import connect_with_timeout
from config.database_errors import DatabaseError, DatabaseUnavailable
from repo.columns.summary import ColumnSummary, read_summary
from repo.database_identity import DatabaseState, read_database_state
from repo.database_size import read_database_size
from repo.lifecycle.retention import RetainRepo, Retention
from repo.migrate import (
    StateOfRollups,
    check_ledger,
    count_applied,
    migrations,
    missing_migrations,
    read_state_of_rollups,
)
from repo.roles import missing_roles
from repo.rollups import daily_stats
from repo.rollups.rollup_writer import RollupWriter
from repo.statements import statements

SQL = statements("status")

_RIGHTS = "this role may not read the schema"
_TOO_SLOW = (errors.QueryCanceled, errors.LockNotAvailable)


class Unreadable(Exception):
    """A part of the database could not be read; the message says why."""

    def __init__(self, reason: str, *, is_forbidden: bool) -> None:
        """`is_forbidden`: the role of this session lacks the privilege to read it."""
        super().__init__(reason)
        self.is_forbidden = is_forbidden


class Server(NamedTuple):
    """The server, its database and the role of the session."""

    version: str
    database: str
    role: str
    now: datetime
    replica_age_s: float | None
    """How many seconds a replica is behind; None on a primary."""


class LastFold(NamedTuple):
    """The time of the last fold, and generations in progress."""

    at: datetime | None
    """None before the first fold."""
    age_s: float | None
    building: int
    """The number of generations being built beside the current one."""


class FutureEvents(NamedTuple):
    """Events that are dated after the last fold, and the first and last of their times."""

    events: int
    first: datetime | None
    last: datetime | None


class Keys(NamedTuple):
    """Numbers of API keys; a key with several scopes counts for each of them."""

    active: int
    read: int
    write: int
    admin: int
    revoked: int
    expired: int


class AdoptedTable(NamedTuple):
    """A table of the platform whose rows are events."""

    name: str
    is_released: bool
    exists: bool
    """False if no table has this name any more; it may have been renamed."""
    trigger_fires: bool | None
    """None if the trigger is missing."""
    pages_left: int
    rejected_rows: int


class StatusRepo:
    """Reads parts of one snapshot, which `status_snapshot` opens.

    All methods raise Unreadable if their part cannot be read, after which others still can, and
    DatabaseUnavailable.
    """

    def __init__(self, conn: connection, cur: cursor) -> None:
        self._conn = conn
        self._cur = cur

    def server(self) -> Server:
        return Server(*self._row("status_server"))

    def pending_migrations(self) -> tuple[int, int]:
        """Return how many migrations are applied and missing; negative if the schema is newer.

        Raises: MigrationError without a schema, or if it is not that of this program.
        """
        # Checked first: without a schema every other part fails as well.
        wanted = migrations()
        check_ledger(self._cur, wanted)
        missing = missing_migrations(self._cur, wanted)
        if missing >= 0:
            count_applied(self._cur, wanted)
        return len(wanted) - missing, missing

    def missing_roles(self) -> list[str]:
        with self._part():
            return missing_roles(self._cur)

    def sessions(self) -> dict[str, int]:
        """Return the number of connections of each command to the database."""
        with self._part():
            self._cur.execute(SQL["status_sessions"])
            return dict(self._cur.fetchall())

    def state_of_rollups(self) -> StateOfRollups:
        with self._part():
            return read_state_of_rollups(self._cur)

    def last_fold(self) -> LastFold:
        return LastFold(*self._row("status_fold"))

    def unfolded_events(self, limit: int) -> int:
        """Return the number of events in the tail, up to a limit."""
        with self._part():
            return RollupWriter(self._conn, ()).count_pending(limit)

    def columns(self, limit: int) -> ColumnSummary | None:
        """Return the state of columns, with a lag up to a limit; None without rollups."""
        with self._part():
            return read_summary(self._conn, limit)

    def future_events(self) -> FutureEvents:
        return FutureEvents(*self._row("status_future_events"))

    def due_days(self) -> int:
        """Return how many days of the daily statistics are queued."""
        with self._part():
            return daily_stats.count_due(self._cur)

    def statistics_age_s(self) -> float | None:
        """Return the seconds since daily statistics were last written; None if they never were."""
        (age_s,) = self._row("status_daily_stats")
        return cast("float | None", age_s)

    def catalogue_age_s(self) -> float | None:
        """Return the seconds since properties were counted; None if there are no counts."""
        (age_s,) = self._row("status_catalogue")
        return cast("float | None", age_s)

    def keys(self) -> Keys:
        return Keys(*self._row("status_keys"))

    def keys_used_at(self) -> datetime | None:
        """Return when any key was last used; None if none ever was."""
        (last_used_at,) = self._row("status_keys_used")
        return cast("datetime | None", last_used_at)

    def retention(self) -> Retention:
        with self._part():
            return RetainRepo(self._conn).get()

    def has_expired_events(self) -> bool:
        """Return whether events older than the horizon are still stored."""
        (is_so,) = self._row("status_has_expired_events")
        return bool(is_so)

    def database_state(self) -> DatabaseState:
        with self._part():
            return read_database_state(self._cur)

    def database_size(self) -> int:
        """Return the size in bytes."""
        with self._part():
            return read_database_size(self._cur)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of tables and their indexes, by purpose."""
        with self._part():
            self._cur.execute(SQL["status_sizes"])
            return dict(self._cur.fetchall())

    def adopted_tables(self) -> list[AdoptedTable]:
        with self._part():
            self._cur.execute(SQL["status_adopted_tables"])
            return [AdoptedTable(*row) for row in self._cur]

    def _row(self, name: str) -> tuple[Any, ...]:
        with self._part():
            self._cur.execute(SQL[name])
            return self._cur.fetchone() or ()

    @contextmanager
    def _part(self) -> Iterator[None]:
        """Run a block in a savepoint, so that an error leaves the transaction usable."""
        self._cur.execute("savepoint part")
        try:
            yield
        except (psycopg2.Error, DatabaseError) as exc:
            if self._conn.closed:
                raise DatabaseUnavailable("the connection to PostgreSQL was lost") from exc
            self._cur.execute("rollback to savepoint part")
            raise _unreadable(exc) from exc


@contextmanager
def status_snapshot(url: str, seconds: float) -> Iterator[StatusRepo]:
    """Open a snapshot on a connection of its own, which is closed after `seconds`.

    Raises: RightsMissing, DatabaseUnavailable.
    """
    with connect_with_timeout(url, "analytics-status", seconds) as conn, translate_errors(_RIGHTS):
        conn.autocommit = True  # `status_begin` begins the transaction, with options of its own
        with conn.cursor() as cur:
            cur.execute(SQL["status_begin"])
            yield StatusRepo(conn, cur)


def _unreadable(exc: Exception) -> Unreadable:
    # Errors of the repository wrap those of the driver.
    error = exc if isinstance(exc, psycopg2.Error) else exc.__cause__
    if isinstance(error, _TOO_SLOW):
        return Unreadable("the query timed out", is_forbidden=False)
    reason = driver_message(error) if isinstance(error, psycopg2.Error) else str(exc)
    is_forbidden = isinstance(error, errors.InsufficientPrivilege)
    return Unreadable(" ".join(reason.split()), is_forbidden=is_forbidden)
