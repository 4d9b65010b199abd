"""From what a request sends to events that are stored: all of them or none, and then the answer."""

import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from common.errors import (
    Busy,
    Fault,
    InsufficientStorage,
    InvalidEvents,
    TooSlow,
    Unavailable,
)
from common.metrics import INGEST_SECONDS, INGESTED
from config.database import Connection, Database, get_connection
from config.database_errors import DatabaseUnavailable, DeadlineExceeded, DiskFull, PoolBusy
from repo.ingest import Event, HttpEventsRepo, as_rows
from repo.rejected_events import EventsExpired, EventsRefused
from services.disk_space import Storage
from services.ingest.http_body import BodyHeaders, BodyReader, Form, inflate
from services.ingest.http_events import EVENT, Faults, read_events
from utils.tracing import trace_span

_MAX_CHECKED = 10  # of what PostgreSQL cannot read it tells one event at a time
_BUSY = "Too many batches at once; nothing was stored, try again shortly."
_FULL = (
    "PostgreSQL has no room left on its disk, so nothing of these was stored: free some there. "
    "The request may be repeated then."
)
_UNKNOWN = "send them again: what has an event_id counts once, whether it is stored or not."

# Threads that read at the same time are no faster, and the event loop waits for all of them.
_read_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of the events of a request."""

    accepted: int
    duplicates: int
    refused: int = 0
    """Of users who were erased, and whose events are not to come back."""


class IngestService:
    """Stores events; each request is one transaction."""

    def __init__(self, database: Database, storage: Storage, request_s: float) -> None:
        self._database = database
        self._storage = storage
        self._request_s = request_s
        self._bodies = BodyReader()

    async def store(
        self,
        body_headers: BodyHeaders,
        chunks: AsyncIterator[bytes],
        deadline: float,
        caller: str = "",
    ) -> IngestResult:
        """Store the events of a body, which must be there by `deadline`, a monotonic time.

        What PostgreSQL does has a deadline of its own: a client may have a slow line. `caller` is
        whose request it is: connections are shared fairly by callers.

        Raises: DiskFull, UnreadableBody, SlowBody, TooLarge, InvalidEvents, Busy, TooSlow,
        Unavailable, InsufficientStorage, ClientGone.
        """
        self._storage.check()
        async with self._bodies.receive(chunks, deadline, caller) as body:
            with INGEST_SECONDS.time():
                result = await self._store_body(body_headers, body, caller)
        INGESTED.labels("accepted").inc(result.accepted)
        INGESTED.labels("duplicate").inc(result.duplicates)
        INGESTED.labels("refused").inc(result.refused)
        return result

    async def _store_body(
        self, body_headers: BodyHeaders, body: bytes, caller: str
    ) -> IngestResult:
        deadline = time.monotonic() + self._request_s
        connection = get_connection(self._database, deadline, caller)
        try:
            result = await connection.run(partial(_store, body_headers, body, connection))
            self._storage.report(is_full=False)
            return result
        except DiskFull:
            self._storage.report(is_full=True)
            raise InsufficientStorage(_FULL) from None
        except InvalidEvents as exc:
            INGESTED.labels("refused").inc(exc.refused)
            raise
        except PoolBusy:
            raise Busy(_BUSY) from None
        except DeadlineExceeded:
            raise TooSlow(f"The events were not stored in time; {_UNKNOWN}") from None
        except DatabaseUnavailable:
            raise Unavailable(f"The database cannot be reached at the moment; {_UNKNOWN}") from None


def _store(body_headers: BodyHeaders, body: bytes, connection: Connection) -> IngestResult:
    """Runs in a thread: all but the waiting is work."""
    with trace_span("read events"):
        events, rows = _read(inflate(body, body_headers.coding), body_headers.form)
    if not events:
        return IngestResult(0, 0)
    repo = HttpEventsRepo(connection)
    try:
        accepted, refused = repo.insert(rows)
    except EventsExpired as exc:
        raise _expired(exc, len(events)) from None
    except EventsRefused:
        raise _refusal(repo, rows) from None
    return IngestResult(accepted, len(events) - accepted - refused, refused)


def _read(text: bytes, form: Form) -> tuple[list[Event], list[str]]:
    now = datetime.now(UTC)
    with _read_lock:
        events = read_events(text, form, now)
        return events, as_rows(events)


def _expired(error: EventsExpired, events: int) -> InvalidEvents:
    faults = Faults()
    for index in sorted(error.indexes):
        faults.add(index, str(error))
    return faults.error(events)


def _refusal(repo: HttpEventsRepo, rows: list[str]) -> InvalidEvents:
    """PostgreSQL has the last word, and is asked which events it was about."""
    faults = Faults()
    refusals = repo.get_refused(rows, _MAX_CHECKED)
    for index, reason in refusals.events:
        faults.add(index, reason or "properties must be what PostgreSQL stores as jsonb")
    if faults.count:
        return faults.error(len(rows), are_all=refusals.is_complete)
    unknown_fault = Fault(
        EVENT, "must be what `events` takes; PostgreSQL does not tell which is not"
    )
    return InvalidEvents(1, len(rows), [unknown_fault], is_complete=False)
