"""A summary of the tables of columns, for metrics and for `status`."""

from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.consumer import count_new, read_progress
from repo.statements import statements

SQL = statements("column_summary")


class ColumnSummary(NamedTuple):
    """The columns of the current generation."""

    lag_events: int
    """Events that are folded and not written, without those of a backfill; up to a limit."""
    written_at: datetime | None
    """When events were last written; None if they never were."""
    written_age_s: float | None
    is_backfilling: bool
    backfill_events: int
    """About the number of events that the backfill has not reached."""
    backfilled_from: datetime | None
    """The time of the earliest event that the backfill has written; None without one."""
    chunks: int
    bytes: int
    """The size of tables and indexes on disk."""
    paths: int
    """The number of properties that have columns."""
    left_out: bool
    """Whether values were left out since there were too many properties."""
    pending_erasures: int
    """Erased users whose events are still in chunks."""
    pending_erasure_age_s: float
    """Seconds since the first of them was erased; 0 if there are none."""


def read_summary(conn: connection, limit: int) -> ColumnSummary | None:
    """Return the summary; None without rollups of this cluster. The lag is counted up to a limit.

    The values are of different snapshots unless `conn` is in a transaction that has one.
    """
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["column_summary"])
        if (row := cur.fetchone()) is None:
            return None
        generation, *values = row
        progress = read_progress(cur, generation)
        lag = 0 if progress is None else count_new(cur, progress, limit)
        return ColumnSummary(lag, *values)
