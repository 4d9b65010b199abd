"""Ingest service: stores the events of a request in one transaction, all of them or none."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.errors import (
    Busy,
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
from services.ingest.http_event_validation import EVENT, Faults
from utils import tracing

if TYPE_CHECKING:
    from services.container import Resources

_MAX_CHECKED = 10  # refused events that are searched for: each one takes another statement
_BUSY = "Too many requests are storing events; nothing was stored, try again shortly."
_FULL = (
    "PostgreSQL has no room left on its disk, so no event was stored: free some space there, then "
    "repeat the request."
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


@dataclass(frozen=True, slots=True)
class Ingest:
    """Stores the events of one request, and makes the response."""

    request: Request
    resources: "Resources"
    caller: Caller

    async def __call__(self, body_format: BodyFormat = EVENTS) -> Response:
        """The response with the counts of stored events.

        Raises: UnsupportedMedia, UnreadableBody, SlowBody, TooLarge, InvalidEvents,
        TooManyRequests, Busy, TooSlow, Unavailable, ClientDisconnected.
        """
        request, (limits, deadline) = self.request, self.caller
        request.state.counted = True
        lookup = await self.resources.cache.count(limits)
        result = await self.resources.ingest.store(
            request.headers, request.stream(), deadline, limits.caller, body_format
        )
        return receipt(result, lookup, limits)


def receipt(result: IngestResult, lookup: CacheLookup | None, limits: Limits) -> Response:
    """The response to a request that stored events; `refused` is only there if it is not 0."""
    counts = {"accepted": result.accepted, "duplicates": result.duplicates}
    body = msgspec.json.encode(counts | ({"refused": result.refused} if result.refused else {}))
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
            INGESTED.labels("refused").inc(result.refused)
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
            rows = body_format.read(text, body_headers.form, now)
    if not rows:
        return IngestResult(0, 0)
    repo = HttpEventsRepo(connection)
    try:
        accepted, refused = repo.insert(rows)
    except EventsExpired as exc:
        raise _expired(exc, len(rows)) from None
    except EventsRefused:
        raise _refusal(repo, rows) from None
    return IngestResult(accepted, len(rows) - accepted - refused, refused)


def _expired(error: EventsExpired, events: int) -> InvalidEvents:
    faults = Faults()
    for index in sorted(error.indexes):
        faults.add(index, str(error))
    return faults.error(events)


def _refusal(repo: HttpEventsRepo, rows: list[str]) -> InvalidEvents:
    """The error about events that are valid here, but that PostgreSQL has refused."""
    faults = Faults()
    refusals = repo.get_refused(rows, _MAX_CHECKED)
    for index, reason in refusals.events:
        faults.add(index, reason or "properties must be a value that PostgreSQL can store as jsonb")
    if faults.count:
        return faults.error(len(rows), are_all=refusals.is_complete)
    unknown_fault = Fault(
        EVENT, "must be a row that the table `events` accepts; which event is not one is unknown"
    )
    return InvalidEvents(1, len(rows), [unknown_fault], is_complete=False)
