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
from config.failures import DatabaseUnavailable, DeadlineExceeded, DiskFull, PoolBusy
from repo.ingest import Event, SentEventsRepo, as_rows
from repo.refused_events import EventsExpired, EventsRefused
from services.ingest.body import Bodies, Form, Sent, inflated
from services.ingest.sent import EVENT, Faults, read_events
from services.storage import Storage
from utils.tracing import span

_MOST_ASKED = 10  # of what PostgreSQL cannot read it tells one event at a time
_BUSY = "Too many batches at once; nothing was stored, try again shortly."
_FULL = (
    "PostgreSQL has no room left on its disk, so nothing of these was stored: free some there. "
    "The request may be repeated then."
)
_UNKNOWN = "send them again: what has an event_id counts once, whether it is stored or not."

# Threads that read at the same time are no faster, and the event loop waits for all of them.
_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Stored:
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
        self._bodies = Bodies()

    async def store(
        self, sent: Sent, chunks: AsyncIterator[bytes], deadline: float, caller: str = ""
    ) -> Stored:
        """Store the events of a body, which must be there by `deadline`, a monotonic time.

        What PostgreSQL does has a deadline of its own: a client may have a slow line. `caller` is
        whose request it is: connections are shared fairly by callers.

        Raises: DiskFull, UnreadableBody, SlowBody, TooLarge, InvalidEvents, Busy, TooSlow,
        Unavailable, InsufficientStorage, ClientGone.
        """
        self._storage.check()
        async with self._bodies.received(chunks, deadline, caller) as body:
            with INGEST_SECONDS.time():
                stored = await self._stored(sent, body, caller)
        INGESTED.labels("accepted").inc(stored.accepted)
        INGESTED.labels("duplicate").inc(stored.duplicates)
        INGESTED.labels("refused").inc(stored.refused)
        return stored

    async def _stored(self, sent: Sent, body: bytes, caller: str) -> Stored:
        deadline = time.monotonic() + self._request_s
        connection = get_connection(self._database, deadline, caller)
        try:
            stored = await connection.run(partial(_store, sent, body, connection))
            self._storage.report(is_full=False)
            return stored
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


def _store(sent: Sent, body: bytes, connection: Connection) -> Stored:
    """Runs in a thread: all but the waiting is work."""
    with span("read events"):
        events, rows = _read(inflated(body, sent.coding), sent.form)
    if not events:
        return Stored(0, 0)
    repo = SentEventsRepo(connection)
    try:
        accepted, refused = repo.insert(rows)
    except EventsExpired as exc:
        raise _expired(exc, len(events)) from None
    except EventsRefused:
        raise _refusal(repo, rows) from None
    return Stored(accepted, len(events) - accepted - refused, refused)


def _read(text: bytes, form: Form) -> tuple[list[Event], list[str]]:
    now = datetime.now(UTC)
    with _reading:
        events = read_events(text, form, now)
        return events, as_rows(events)


def _expired(error: EventsExpired, events: int) -> InvalidEvents:
    faults = Faults()
    for place in sorted(error.places):
        faults.add(place, str(error))
    return faults.error(events)


def _refusal(repo: SentEventsRepo, rows: list[str]) -> InvalidEvents:
    """PostgreSQL has the last word, and is asked which events it was about."""
    faults = Faults()
    refusals = repo.get_refused(rows, _MOST_ASKED)
    for place, reason in refusals.found:
        faults.add(place, reason or "properties must be what PostgreSQL stores as jsonb")
    if faults.count:
        return faults.error(len(rows), are_all=refusals.are_all)
    untold = Fault(EVENT, "must be what `events` takes; PostgreSQL does not tell which is not")
    return InvalidEvents(1, len(rows), [untold], are_all=False)
