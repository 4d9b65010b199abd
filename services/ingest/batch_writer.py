"""Writer of batches of a file: one batch is stored while the next one is read and validated."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

from repo.ingest import IngestRepo
from repo.rejection_reasons import EventsExpired, EventsRefused
from services.ingest.input_rows import RowOrigin

_BATCH_BYTES = 16 * 1024 * 1024
# The time to wait for the current batch when a load is interrupted, so that its result is known.
DRAIN_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Batch:
    """Rows that are stored in one transaction, in the text format of COPY, and their origins."""

    rows: list[str] = field(default_factory=list)
    origins: list[RowOrigin] = field(default_factory=list)
    size: int = 0

    def add(self, rows: list[str], origins: list[RowOrigin]) -> None:
        self.rows += rows
        self.origins += origins
        self.size += sum(map(len, rows))

    def is_full(self, max_rows: int) -> bool:
        return len(self.rows) >= max_rows or self.size > _BATCH_BYTES


class BatchResult(NamedTuple):
    """Numbers of rows of a batch that were inserted, present, suppressed or refused."""

    inserted: int
    present: int
    """Rows whose event_id was stored before."""
    suppressed: int
    refused: list[tuple[RowOrigin, str]]


class BatchWriter:
    """Stores one batch at a time, in a thread of its own."""

    def __init__(
        self,
        repo: IngestRepo,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        check_space: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_space` is called before each batch, and raises DiskFull to stop the load."""
        self._check_space = check_space
        self._repo = repo
        self._drain_timeout_s = drain_timeout_s
        self._threads = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._results: deque[BatchResult] = deque()

    def store(self, batch: Batch) -> None:
        """Start to store a batch. The one before must have been waited for."""
        self._pending = self._threads.submit(self._store, batch.rows, batch.origins)

    def wait(self) -> None:
        """Wait until the batch is stored. Raises: DiskFull, DatabaseUnavailable."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def results(self) -> Iterator[BatchResult]:
        """The results of committed batches since the last call."""
        while self._results:
            yield self._results.popleft()

    def close(self) -> None:
        """Wait for the current batch; its connection is closed if that takes too long."""
        if self._pending is not None and not wait([self._pending], self._drain_timeout_s).done:
            self._repo.hang_up()
        self._threads.shutdown(wait=True)

    def _store(self, rows: list[str], origins: list[RowOrigin]) -> None:
        """Store rows. If PostgreSQL refuses them, bisect them until only refused rows are left."""
        if not rows:
            return
        self._check_space()
        try:
            inserted, suppressed = self._repo.insert(rows)
        except EventsExpired as exc:
            expired = [(origins[at], str(exc)) for at in sorted(exc.indexes)]
            remaining = [at for at in range(len(rows)) if at not in exc.indexes]
            self._store([rows[at] for at in remaining], [origins[at] for at in remaining])
            self._results.append(BatchResult(0, 0, 0, expired))
        except EventsRefused as exc:
            if len(rows) == 1:
                self._results.append(BatchResult(0, 0, 0, [(origins[0], str(exc))]))
                return
            middle = len(rows) // 2
            self._store(rows[:middle], origins[:middle])
            self._store(rows[middle:], origins[middle:])
        else:
            present = len(rows) - inserted - suppressed
            self._results.append(BatchResult(inserted, present, suppressed, []))
