"""What becomes of the events of a request, and of the errors of PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from common.errors import (
    AnalyticsError,
    Busy,
    EventFault,
    InsufficientStorage,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)
from config.database import Database
from config.database_errors import DatabaseUnavailable, DeadlineExceeded, DiskFull, PoolBusy
from repo.ingest import Inserted
from services.cache_service import CacheLookup, Limits
from services.disk_space import Storage, StorageLimits
from services.ingest import ingest_service
from services.ingest.ingest_service import IngestResult, IngestService, receipt

HEADERS = {"content-type": "application/x-ndjson"}
NO_DATABASE = cast(Database, None)


class FakeConnection:
    """Runs the work at once, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    async def run(self, work: Callable[[], Any]) -> Any:
        if self.failure:
            raise self.failure
        return work()


class FakeRepo:
    """Of all events but two, of which one is present and one of a suppressed user."""

    def __init__(self, _: object) -> None:
        pass

    def insert(self, rows: Sequence[str]) -> Inserted:
        return Inserted(len(rows) - 2, 1)


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


def store(
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    failure: Exception | None = None,
    headers: dict[str, str] = HEADERS,
) -> tuple[IngestResult, Storage]:
    monkeypatch.setattr(ingest_service, "get_connection", lambda *_: FakeConnection(failure))
    monkeypatch.setattr(ingest_service, "HttpEventsRepo", FakeRepo)
    storage = Storage(StorageLimits(None, 0, 0), NO_DATABASE)
    service = IngestService(NO_DATABASE, storage, 5)
    result = asyncio.run(service.store(headers, chunks(body), time.monotonic() + 5))
    return result, storage


def test_the_events_of_a_request_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    result, storage = store(monkeypatch, b'{"event_name":"a"}\n' * 5)
    assert result == IngestResult(accepted=3, duplicates=1, refused=1)
    assert storage.state == "ok"


def test_a_request_without_events_stores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store(monkeypatch, b"\n")[0] == IngestResult(0, 0)


@pytest.mark.parametrize(
    ("failure", "error", "start"),
    [
        (PoolBusy(), Busy, "Too many requests are storing events; nothing was stored"),
        (DeadlineExceeded(), TooSlow, "The events may not have been stored in time; send them"),
        (DatabaseUnavailable(), Unavailable, "The database is unavailable at the moment; send"),
        (DiskFull(), InsufficientStorage, "PostgreSQL has no room left on its disk, so no event"),
    ],
)
def test_errors_of_postgresql_are_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, error: type[AnalyticsError], start: str
) -> None:
    with pytest.raises(error, match=start):
        store(monkeypatch, b'{"event_name":"a"}', failure)


def test_a_body_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedMedia):
        store(monkeypatch, b"", headers={"content-type": "text/csv"})


def test_a_receipt_names_refused_events_if_there_are_any() -> None:
    stored, some = IngestResult(2, 1, 0), IngestResult(2, 1, 3)
    response = receipt(stored, None, Limits())
    assert response.body == b'{"accepted":2,"duplicates":1}'
    assert receipt(some, None, Limits()).body == b'{"accepted":2,"duplicates":1,"refused":3}'
    faults = (EventFault("event", "is missing", 4),)
    assert receipt(IngestResult(2, 1, 0, 1, faults), None, Limits()).body == (
        b'{"accepted":2,"duplicates":1,"rejected":1,'
        b'"errors":[{"parameter":"event","message":"is missing","index":4}]}'
    )
    assert dict(response.headers) == {
        "cache-control": "no-store",
        "content-type": "application/json",
        "content-length": "29",
    }


def test_a_receipt_says_what_remains_of_the_rate_limit() -> None:
    lookup = CacheLookup("miss", "", 9, 200, False, b"", 0, 0, 0, None)
    headers = receipt(IngestResult(1, 0), lookup, Limits("key", 10)).headers
    assert (headers["ratelimit"], headers["ratelimit-policy"]) == (
        '"second";r=9;t=1',
        '"second";q=10;w=1',
    )
