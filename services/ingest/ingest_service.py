"""Ingest service: stores the events of a request in one transaction."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.errors import (
    Busy,
    EventFault,
    Fault,
    InsufficientStorage,
    InvalidEvents,
    TooSlow,
    Unavailable,
    rate_limit_headers,
)
from common.metrics import INGEST_SECONDS, INGESTED
from config.database import Connection, Database, get_connection
from config.database_errors import DatabaseUnavailable, DeadlineExceeded, DiskFull, PoolBusy
from repo.ingest import HttpEventsRepo
from repo.rejection_reasons import EventsExpired, EventsRefused
from services.auth import Caller
from services.cache_service import CacheLookup, Limits
from services.disk_space import Storage
from services.ingest.body_formats import EVENTS, BodyFormat
from services.ingest.http_body import BodyHeaders, BodyReader, inflate, parse_body_headers
from services.ingest.http_event_validation import EVENT, ReadEvents
from utils import tracing

if TYPE_CHECKING:
    from services.container import Resources

_MAX_CHECKED = 10  # refused events that are searched for: each one takes another statement
_BUSY = "Too many requests are storing events; nothing was stored, try again shortly."
_FULL = (
    "PostgreSQL has no room left on its disk, so no event was stored: free some space there, then "
    "repeat the request."
)
_NOT_JSONB = "properties must be a value that PostgreSQL can store as jsonb"
_UNKNOWN_FAULT = Fault(
    EVENT, "must be a row that the table `events` accepts; which event is not one is unknown"
)
_UNKNOWN = "send them again: an event with an event_id is stored only once."

# One thread parses at a time: with the GIL several are no faster, and they delay the event loop.
_read_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The number of events of a request that were stored, were stored before, or were refused."""

    accepted: int
    duplicates: int
    refused: int = 0
    """Events of suppressed users."""
    rejected: int = 0
    """Invalid events."""
    faults: Sequence[EventFault] = ()
    """The faults of invalid events, at most 100."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """Stores the events of one request, and makes the response."""

    request: Request
    resources: "Resources"
    caller: Caller
    body: bytes | None = None
    """The body, if it was received already."""

    async def __call__(self, body_format: BodyFormat = EVENTS) -> Response:
        """The response with the counts of stored events.

        Raises: UnsupportedMedia, UnreadableBody, SlowBody, TooLarge, InvalidEvents,
        TooManyRequests, Busy, TooSlow, Unavailable, ClientDisconnected.
        """
        request, (limits, deadline) = self.request, self.caller
        request.state.counted = True
        lookup = await self.resources.cache.count(limits)
        chunks = request.stream() if self.body is None else _once(self.body)
        result = await self.resources.ingest.store(
            request.headers, chunks, deadline, limits.caller, body_format
        )
        return receipt(result, lookup, limits)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def receipt(result: IngestResult, lookup: CacheLookup | None, limits: Limits) -> Response:
    """The response to a request that stored events; `refused`, `rejected` and `errors` are only
    there if some were not stored."""
    counts = {"accepted": result.accepted, "duplicates": result.duplicates}
    others = {"refused": result.refused, "rejected": result.rejected, "errors": result.faults}
    body = msgspec.json.encode(counts | {name: value for name, value in others.items() if value})
    headers = {"Cache-Control": "no-store"}
    if lookup and limits.per_second:
        headers |= rate_limit_headers(limits.per_second, lookup.remaining, lookup.wait_ms)
    return Response(body, headers=headers, media_type="application/json")


class IngestService:
    """Stores the events of requests, each request in one transaction."""

    def __init__(self, database: Database, storage: Storage, request_s: float) -> None:
        self._database = database
        self._storage = storage
        self._request_s = request_s
        self._bodies = BodyReader()

    def receive_keyless(
        self, chunks: AsyncIterator[bytes], deadline: float
    ) -> AbstractAsyncContextManager[bytes]:
        """The complete body of a request whose key may be in it, until the end of the block.

        Raises: TooLarge, SlowBody, Busy, ClientDisconnected.
        """
        return self._bodies.receive_keyless(chunks, deadline)

    async def store(
        self,
        headers: Mapping[str, str],
        chunks: AsyncIterator[bytes],
        deadline: float,
        caller: str = "",
        body_format: BodyFormat = EVENTS,
    ) -> IngestResult:
        """Store the events of a body, which must be received by `deadline`, a monotonic time.

        `caller` owns the request: callers share connections and buffers fairly.

        Raises: DiskFull, UnsupportedMedia, UnreadableBody, SlowBody, TooLarge, InvalidEvents, Busy,
        TooSlow, Unavailable, InsufficientStorage, ClientDisconnected.
        """
        self._storage.check()
        body_headers = parse_body_headers(headers, body_format.forms)
        async with self._bodies.receive(chunks, deadline, caller) as body:
            with INGEST_SECONDS.time():
                store = partial(_store, body_format, body_headers, body)
                result = await self._store_body(store, caller)
            INGESTED.labels("accepted").inc(result.accepted)
            INGESTED.labels("duplicate").inc(result.duplicates)
            INGESTED.labels("refused").inc(result.refused + result.rejected)
        return result

    async def _store_body(
        self, store: Callable[[Connection], IngestResult], caller: str
    ) -> IngestResult:
        # A new deadline: the time that a slow client took to send its body does not count.
        deadline = time.monotonic() + self._request_s
        connection = get_connection(self._database, deadline, caller)
        try:
            result = await connection.run(partial(store, connection))
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
            raise TooSlow(f"The events may not have been stored in time; {_UNKNOWN}") from None
        except DatabaseUnavailable:
            raise Unavailable(f"The database is unavailable at the moment; {_UNKNOWN}") from None


def _store(
    body_format: BodyFormat, body_headers: BodyHeaders, body: bytes, connection: Connection
) -> IngestResult:
    """Decompress, parse, validate and store the events of a body. Runs in a thread."""
    now = datetime.now(UTC)
    with tracing.span("read events"):
        text = inflate(body, body_headers.coding)
        with _read_lock:
            events = body_format.read(text, body_headers.form, now)
    if not events.rows:
        return IngestResult(0, 0)
    repo = HttpEventsRepo(connection)
    while True:
        try:
            accepted, refused = repo.insert(events.rows)
            break
        except EventsRefused as exc:
            _reject_refused(repo, events, exc)
            if not (body_format.is_partial and events.rows):
                raise events.error() from None
    duplicates, faults = len(events.rows) - accepted - refused, events.faults
    if not faults.count:
        return IngestResult(accepted, duplicates, refused)
    return IngestResult(accepted, duplicates, refused, faults.count, faults.reported)


def _reject_refused(repo: HttpEventsRepo, events: ReadEvents, error: EventsRefused) -> None:
    """Turn the events that PostgreSQL has refused, although they are valid here, into faults.

    Raises: InvalidEvents, if there may be others.
    """
    if isinstance(error, EventsExpired):
        events.reject(dict.fromkeys(error.indexes, str(error)))
        return
    refusals = repo.get_refused(events.rows, _MAX_CHECKED)
    if not refusals.events:
        raise InvalidEvents(1, len(events.rows), [_UNKNOWN_FAULT], is_complete=False)
    events.reject({row: reason or _NOT_JSONB for row, reason in refusals.events})
    if not refusals.is_complete:
        raise events.error(are_all=False)
