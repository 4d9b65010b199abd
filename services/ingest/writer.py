"""Batches into the table while the next one is read; what is committed is always known."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

from repo.ingest import IngestRepo
from repo.refused_events import EventsExpired, EventsRefused
from services.ingest.lines import Place

_BATCH_BYTES = 16 * 1024 * 1024
PATIENCE_S = 10.0
"""So long a batch that is being stored is waited for when the load ends early."""


@dataclass(slots=True)
class Batch:
    """What PostgreSQL is given at once."""

    rows: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    size: int = 0

    def add(self, rows: list[str], places: list[Place]) -> None:
        self.rows += rows
        self.places += places
        self.size += sum(map(len, rows))

    def is_full(self, most: int) -> bool:
        return len(self.rows) >= most or self.size > _BATCH_BYTES


class Stored(NamedTuple):
    """What became of rows that PostgreSQL was given."""

    inserted: int
    present: int
    suppressed: int
    refused: list[tuple[Place, str]]


class Writer:
    """Stores one batch at a time, in a thread of its own."""

    def __init__(
        self,
        repo: IngestRepo,
        patience_s: float = PATIENCE_S,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_room` is called before each batch, and raises where there is none."""
        self._check_room = check_room
        self._repo = repo
        self._patience_s = patience_s
        self._threads = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._done: deque[Stored] = deque()

    def store(self, batch: Batch) -> None:
        """Begin to store it; the one before must be done."""
        self._pending = self._threads.submit(self._store, batch.rows, batch.places)

    def wait(self) -> None:
        """Until the batch is done. Raises: DiskFull, DatabaseUnavailable."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def taken(self) -> Iterator[Stored]:
        """What is committed and was not taken before."""
        while self._done:
            yield self._done.popleft()

    def close(self) -> None:
        """Let the batch come to its end; one that takes long is broken off."""
        if self._pending is not None and not wait([self._pending], self._patience_s).done:
            self._repo.hang_up()
        self._threads.shutdown(wait=True)

    def _store(self, rows: list[str], places: list[Place]) -> None:
        """PostgreSQL has the last word: a batch that it refuses is halved to find the row."""
        if not rows:
            return
        self._check_room()
        try:
            inserted, suppressed = self._repo.insert(rows)
        except EventsExpired as exc:
            expired = [(places[at], str(exc)) for at in sorted(exc.places)]
            kept = [at for at in range(len(rows)) if at not in exc.places]
            self._store([rows[at] for at in kept], [places[at] for at in kept])
            self._done.append(Stored(0, 0, 0, expired))
        except EventsRefused as exc:
            if len(rows) == 1:
                self._done.append(Stored(0, 0, 0, [(places[0], str(exc))]))
                return
            middle = len(rows) // 2
            self._store(rows[:middle], places[:middle])
            self._store(rows[middle:], places[middle:])
        else:
            present = len(rows) - inserted - suppressed
            self._done.append(Stored(inserted, present, suppressed, []))
