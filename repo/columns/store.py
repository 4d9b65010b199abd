"""The store of columns: it writes events in `maintain`, with a watermark and a lock of its own."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from repo.columns.chunk_table import SQL
from repo.columns.consumer import (
    NO_END,
    Consumer,
    columns_locked,
    is_nearly_done,
    read_folded,
    read_progress,
)
from repo.columns.retained_chunks import take_over
from repo.columns.rewriter import Rewriter
from repo.columns.user_ordinals import UserOrdinals
from repo.engine.tail import Snapshot
from repo.rollups.aggregate import Batch
from repo.rollups.fold_state import Progress
from repo.rollups.store import Horizon, Store, StoreBehind
from repo.rollups.subtract_user import NO_ORDINAL, ErasedUser
from repo.statements import compose, statements

FOLD = statements("fold")

log = logging.getLogger("analytics.rollup")

DEFAULT_MAX_PATHS = 2_000


@dataclass(slots=True)
class WrittenColumns:
    """The number of events that one process has written, and the seconds that took."""

    events: int = 0
    seconds: float = 0
    """Including the time in which chunks were merged."""


class ColumnStore(Store):
    """Events with their properties, as columns."""

    name = "columns"
    unit = "chunks"
    tables = ("column_state", "column_chunks", "column_data", "column_paths", "batch_log")
    deletes_generations = True

    def __init__(self, zones: Sequence[ZoneInfo]) -> None:
        super().__init__(zones)
        self.max_paths = DEFAULT_MAX_PATHS
        """The number of paths that have columns."""
        self.written = WrittenColumns()
        self._rewriter = Rewriter()
        self._ordinals = UserOrdinals()
        self._until: dict[int, Snapshot] = {}
        """Where work that is not lazy ends although others go on folding; empty before it."""
        self._failure = ""

    def apply(self, cur: cursor, progress: Progress, batch: Batch) -> None:
        """Do nothing: `maintain` writes the events."""

    def seal(self, cur: cursor, progress: Progress) -> int:
        return 0  # chunks may overlap in time, so late events change none

    def erase(self, cur: Cursor, user: ErasedUser) -> int:
        """Let questions leave out the user, who may be in chunks: `maintain` rewrites these."""
        if user.ordinal != NO_ORDINAL:
            params = {"ordinal": user.ordinal, "erasure": user.erasure}
            cur.execute(SQL["columns_erase"], params)
            user.is_in_columns = True
        return 0

    def drop_before(self, cur: Cursor, horizon: Horizon) -> None:
        """Check that all events before the horizon are written, and refuse dropped properties."""
        cur.execute(SQL["columns_generations"])
        for (generation,) in cur.fetchall():
            progress = read_progress(cur, generation)
            if progress is None or progress.is_backfilling:
                raise StoreBehind
            params = {**progress.new_ranges, "until": horizon.events}
            cur.execute(SQL["columns_has_new_before"], params)
            if cur.fetchone() != (False,):
                raise StoreBehind
            cur.execute(SQL["columns_begin"], {"generation": generation})
        cur.execute(SQL["columns_drop_properties"], {"until": horizon.properties})

    def rebuild(self, cur: Cursor, progress: Progress) -> None:
        """Take over the columns of dropped events, which cannot be built anew."""
        take_over(cur, progress.generation)

    def is_built(self, cur: Cursor, progress: Progress) -> bool:
        columns = read_progress(cur, progress.generation)
        return columns is not None and is_nearly_done(cur, columns)

    def maintain(self, conn: connection, *, is_lazy: bool) -> int:
        """Write some events, and delete some of what has to be; return the number of chunks.

        A backfill, or a failure, of one does not delay the other.
        """
        works: list[Callable[[], int]] = [
            lambda: self._write(conn, is_lazy=is_lazy),
            lambda: _delete_orphans(conn) or self._rewriter.step(conn),
        ]
        done, failures = 0, []
        for work in works:
            try:
                done += work()
            except Exception as exc:
                failures.append(exc)
        if failures and not done:
            raise failures[0]
        self._log(failures)
        return done

    def _write(self, conn: connection, *, is_lazy: bool) -> int:
        if not is_lazy and not self._until:
            self._until = read_folded(conn)
        began = time.monotonic()
        until = NO_END if is_lazy else self._until
        consumer = Consumer(conn, self.max_paths, until=until, ordinals=self._ordinals)
        if chunks := consumer.step(is_lazy=is_lazy):
            self.written.seconds += time.monotonic() - began
            self.written.events += consumer.written_events
        elif not is_lazy:
            self._until = {}
        return chunks

    def _log(self, failures: Sequence[Exception]) -> None:
        """Log a failure, but not again while it is the same, since steps are many."""
        failure = type(failures[0]).__name__ if failures else ""
        if failure and failure != self._failure:
            log.error("a part of the columns cannot be maintained", exc_info=failures[0])
        self._failure = failure


def _delete_orphans(conn: connection) -> int:
    """Delete the columns of a generation that was replaced; return how many were."""
    with conn.cursor() as cur:
        cur.execute(SQL["columns_orphans"])
        orphans = [generation for (generation,) in cur]
    if orphans:
        with columns_locked(conn) as cur:
            for table in ColumnStore.tables:
                statement = compose(FOLD["fold_delete_rows"], table=table)
                cur.execute(statement, {"generations": orphans})
    return len(orphans)
