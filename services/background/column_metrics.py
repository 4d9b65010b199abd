"""Metrics of columns, which the rollup worker publishes."""

import time
from datetime import datetime

from common.metrics import (
    COLUMN_BACKFILL_EVENTS,
    COLUMN_BYTES,
    COLUMN_CHUNKS,
    COLUMN_ERASURE_SECONDS,
    COLUMN_ERASURES,
    COLUMN_LAG_EVENTS,
    COLUMN_LAG_SECONDS,
    COLUMN_PATH_LIMIT,
    COLUMN_PATHS,
    COLUMN_WRITE_SECONDS,
    COLUMN_WRITTEN_EVENTS,
)
from common.pool_metrics import DeltaPublisher
from repo.rollups.rollup_writer import RollupWriter

_MAX_COUNTED = 1_000_000


class ColumnMetrics:
    """Publishes what one rollup writer has written, and what is in the tables of columns."""

    def __init__(self, writer: RollupWriter, max_paths: int) -> None:
        self._writer = writer
        self._publish_delta = DeltaPublisher()
        self._written_at: datetime | None = None
        self._lag_since: float | None = None
        """The monotonic time since when there has been a lag, and no events were written."""
        COLUMN_PATH_LIMIT.set(max_paths)

    def publish(self) -> None:
        """Set all metrics. Raises: DatabaseUnavailable."""
        written = self._writer.written_columns
        self._publish_delta(COLUMN_WRITTEN_EVENTS, "events", written.events)
        self._publish_delta(COLUMN_WRITE_SECONDS, "seconds", written.seconds)
        if (summary := self._writer.column_summary(_MAX_COUNTED)) is None:
            return
        COLUMN_LAG_EVENTS.set(summary.lag_events)
        COLUMN_LAG_SECONDS.set(self._lag_s(summary.lag_events, summary.written_at))
        COLUMN_BACKFILL_EVENTS.set(summary.backfill_events)
        COLUMN_CHUNKS.set(summary.chunks)
        COLUMN_BYTES.set(summary.bytes)
        COLUMN_PATHS.set(summary.paths)
        COLUMN_ERASURES.set(summary.pending_erasures)
        COLUMN_ERASURE_SECONDS.set(summary.pending_erasure_age_s)

    def _lag_s(self, events: int, written_at: datetime | None) -> float:
        """Return for how long at most events have waited to be written."""
        # After a quiet time the last batch is old, although new events have not waited for long.
        if not events or written_at != self._written_at:
            self._lag_since = None
        self._written_at = written_at
        if not events:
            return 0.0
        self._lag_since = self._lag_since or time.monotonic()
        return time.monotonic() - self._lag_since
