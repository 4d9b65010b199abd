"""The container of the application's resources: opened at startup, closed at shutdown."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from cachetools import LRUCache
from pydantic import SecretStr

from common.pool_metrics import Pool, publish_pool
from config.database import Database
from config.database_errors import DatabaseError
from config.settings import Settings
from repo.columns.cache import COLUMN_CACHE
from repo.database_identity import identity_of
from services.answering.answer_service import AnswerService, Policy
from services.answering.cache_versions import CacheVersions
from services.answering.evaluator import Evaluator
from services.answering.question_request import RememberedRequest, RequestKey
from services.auth import ApiKeyCache
from services.background.cache_purger import CachePurger
from services.cache_service import CacheFailed, CacheService
from services.database_identity import Identity, check_forever
from services.disk_space import Storage, storage_limits
from services.ingest.ingest_service import IngestService
from services.lifecycle.erasure import ErasureService
from services.readiness import Readiness
from services.server_urls import servers
from utils.postgres import Identify
from utils.session_options import INGEST_OPTIONS, QUESTION_OPTIONS

log = logging.getLogger("analytics.resources")

_MAX_REMEMBERED = 5_000  # requests
_SINGLE_USE_LIFETIME_S = 0.001  # so short that the pool closes a connection after each use


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that live as long as the application."""

    database: Database
    cache: CacheService
    answers: AnswerService
    ingest: IngestService
    erasure: ErasureService
    keys: ApiKeyCache
    readiness: Readiness
    recent_requests: LRUCache[RequestKey, RememberedRequest]
    identity: Identity
    per_second: int
    concurrency: int
    request_s: float
    erase_s: float
    metrics_token: SecretStr | None


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open all resources, and close them in reverse order. Raises: EmbeddedError."""
    async with AsyncExitStack() as stack:
        endpoints = stack.enter_context(servers(settings))
        url = endpoints.databases.url("reader")
        identity, policy = Identity(), _policy(settings)
        cache = await stack.enter_async_context(_cache(settings, endpoints.redis_url, identity))
        await stack.enter_async_context(_in_background(cache.ping_forever()))
        versions = await stack.enter_async_context(_cache_versions(settings, url, identity))
        await stack.enter_async_context(_identity_check(settings, url, identity))
        database = await stack.enter_async_context(_pool(settings, url, identity))
        evaluator = Evaluator(settings.pool_waiters)
        stack.callback(evaluator.close)
        answers = AnswerService(
            cache, database, versions, evaluator, identity=identity, policy=policy
        )
        stack.push_async_callback(answers.close)
        writer = endpoints.databases.url("writer")
        ingest, storage = await stack.enter_async_context(_ingest(settings, writer, identity))
        key_cache = _api_key_cache(settings, url, writer, identity)
        purger = CachePurger(cache, versions, identity)
        await stack.enter_async_context(_in_background(purger.poll_forever()))
        erasure = ErasureService(endpoints.database_url, purger, storage)
        stack.push_async_callback(erasure.close)
        yield Resources(
            database,
            cache,
            answers,
            ingest,
            erasure,
            await stack.enter_async_context(key_cache),
            Readiness(database, cache, purger, storage, timeout_s=settings.request_timeout_s),
            LRUCache(_MAX_REMEMBERED),
            identity,
            settings.rate_limit,
            settings.max_concurrent_queries,
            settings.request_timeout_s,
            settings.erase_timeout_s,
            settings.metrics_token,
        )


@asynccontextmanager
async def _pool(settings: Settings, url: str, identity: Identity) -> AsyncIterator[Database]:
    """The pool for questions, with connections opened in advance and statistics in the metrics."""
    size = settings.pool_size
    database = open_database(settings, url, size, "analytics", identity, identify=identity_of)
    try:
        async with (
            _published_stats(database, "questions"),
            _in_background(database.maintain_forever()),
        ):
            yield database
    finally:
        database.close()


@asynccontextmanager
async def _cache(settings: Settings, url: str, identity: Identity) -> AsyncIterator[CacheService]:
    """The cache, connected unless Redis is unavailable; it connects later then."""
    cache = open_cache(settings, url, identity)
    try:
        with suppress(CacheFailed):
            await cache.ping()
        yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def _cache_versions(
    settings: Settings, url: str, identity: Identity
) -> AsyncIterator[CacheVersions]:
    """The cache versions, polled in the background."""
    # A connection of its own: a busy pool must not delay the notice of a late event, and polling
    # must not take connections from questions.
    database = open_database(
        settings, url, 1, "analytics-cache-versions", identity, identify=identity_of
    )
    COLUMN_CACHE.resize(settings.column_cache_bytes, settings.workers)
    versions = CacheVersions(database, identity)
    try:
        with suppress(DatabaseError):
            await versions.refresh()
        async with _in_background(versions.poll_forever()):
            yield versions
    finally:
        database.close()


@asynccontextmanager
async def _identity_check(settings: Settings, url: str, identity: Identity) -> AsyncIterator[None]:
    """Regular checks whether the URL still leads to the same database."""
    # A new connection for each check, beside the pool: if PostgreSQL has no slot left for it, the
    # pool must keep its connections.
    database = open_database(
        settings,
        url,
        1,
        "analytics-identity",
        identity,
        lifetime_s=_SINGLE_USE_LIFETIME_S,
        identify=identity_of,
    )
    try:
        async with _in_background(check_forever(identity, database)):
            yield
    finally:
        database.close()


@asynccontextmanager
async def _ingest(
    settings: Settings, url: str, identity: Identity
) -> AsyncIterator[tuple[IngestService, Storage]]:
    """The ingest service, and the storage limits that it checks."""
    # Connections of its own: events and questions must not wait for each other.
    size = settings.ingest_pool_size
    database = open_database(settings, url, size, "analytics-ingest", identity, INGEST_OPTIONS)
    try:
        storage = Storage(storage_limits(settings), database)
        await storage.refresh()
        async with _published_stats(database, "events"), _in_background(storage.poll_forever()):
            yield IngestService(database, storage, settings.request_timeout_s), storage
    finally:
        database.close()


def open_cache(settings: Settings, url: str, identity: Identity) -> CacheService:
    """A client of the cache, which connects at its first call."""
    return CacheService(
        url,
        settings.cache_timeout_s,
        request_s=settings.request_timeout_s,
        stale_s=settings.cache_stale_s,
        identity=identity,
    )


@asynccontextmanager
async def _api_key_cache(
    settings: Settings, url: str, writer_url: str, identity: Identity
) -> AsyncIterator[ApiKeyCache]:
    """The API keys, polled in the background."""
    # A connection of its own: a revoked key that occupies the whole pool must not stay valid. Keys
    # are read from the primary, since a replica may lag behind.
    urls = [writer_url] if url == writer_url else [writer_url, url]
    database, *others = (
        open_database(settings, database_url, 1, "analytics-keys", identity)
        for database_url in urls
    )
    fallback = others[0] if others else None
    is_open_allowed = may_be_open(settings)
    keys = ApiKeyCache(database, writer_url, fallback=fallback, may_be_open=is_open_allowed)
    try:
        async with _in_background(keys.poll_forever()), _in_background(keys.record_use_forever()):
            yield keys
    finally:
        await keys.record_last_used()
        for pool in filter(None, (database, fallback)):
            pool.close()


def may_be_open(settings: Settings) -> bool:
    """Whether no key is required until one is created: only on loopback with embedded servers."""
    return settings.database_url is None and settings.is_loopback


def open_database(
    settings: Settings,
    url: str,
    size: int,
    name: str,
    identity: Identity,
    options: Mapping[str, str] = QUESTION_OPTIONS,
    *,
    lifetime_s: float | None = None,
    identify: Identify | None = None,
) -> Database:
    """A pool of connections, which are replaced once the URL leads to another database."""
    database = Database(
        url,
        size=size,
        waiters=settings.pool_waiters,
        acquire_timeout_s=settings.acquire_timeout_s,
        statement_timeout_s=settings.request_timeout_s,
        lifetime_s=lifetime_s or settings.connection_lifetime_s,
        name=f"{name}-{os.getpid()}",
        options=options,
        identify=identify,
    )
    identity.on_change(database.pool.retire)
    return database


def _policy(settings: Settings) -> Policy:
    return Policy(
        enabled=settings.cache_enabled,
        open_s=settings.cache_ttl_open_s,
        closed_s=settings.cache_ttl_closed_s,
        request_s=settings.request_timeout_s,
    )


@asynccontextmanager
async def _published_stats(database: Database, pool: Pool) -> AsyncIterator[None]:
    with publish_pool(database, pool) as publish:
        async with _in_background(_publish_forever(publish)):
            yield


async def _publish_forever(publish: Callable[[], None]) -> NoReturn:
    """Publish statistics every second, since any worker process may serve the metrics of all."""
    while True:
        await asyncio.sleep(1)
        publish()


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run a coroutine that never returns, and cancel it at the end of the block."""
    task = asyncio.create_task(work)
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _log_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("a background task failed", exc_info=error)
