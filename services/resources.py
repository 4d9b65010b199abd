"""What the application opens when it starts and closes when it stops."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import SecretStr

from common.pools import Pool, published
from config.database import Database, Identify
from config.failures import DatabaseError
from config.settings import Settings
from repo.api_keys import ApiKey
from repo.identity import identity_of
from services.answer_service import AnswerService, Policy
from services.auth import KeyRing
from services.cache_clearing import CacheClearing
from services.cache_service import CacheFailed, CacheService, Limits
from services.delivery import Known, Looks
from services.editions import Editions
from services.erase import Erasing
from services.identity import Identity, check_forever
from services.ingest.service import IngestService
from services.memory import Memory
from services.readiness import Readiness
from services.servers import servers
from services.storage import Storage, storage_limits
from services.tracing import traced
from utils.sessions import INGEST_OPTIONS, QUESTION_OPTIONS

log = logging.getLogger("analytics.resources")

_REMEMBERED = 5_000  # requests
_ONE_USE_S = 0.001
"""The lifetime of a connection that is closed after each use."""
_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Resources:
    """What lives as long as the application."""

    database: Database
    cache: CacheService
    answers: AnswerService
    ingest: IngestService
    erasing: Erasing
    keys: KeyRing
    readiness: Readiness
    memory: Memory[Looks, Known]
    identity: Identity
    per_second: int
    at_once: int
    request_s: float
    erase_s: float
    metrics_token: SecretStr | None

    def limits_of(self, key: ApiKey | None) -> Limits:
        """Without a key there is no limit."""
        if key is None:
            return _NO_LIMITS
        return Limits(f"{self.identity.value}:{key.key_id}", self.per_second, self.at_once)


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Opened in this order and closed in the other. Raises: EmbeddedError."""
    async with AsyncExitStack() as stack:
        stack.enter_context(traced(settings))
        endpoints = stack.enter_context(servers(settings))
        url = endpoints.databases.url("reader")
        identity, policy = Identity(), _policy(settings)
        cache = await stack.enter_async_context(_cache(settings, endpoints.redis_url, identity))
        await stack.enter_async_context(_running(cache.keep_looking()))
        editions = await stack.enter_async_context(_editions(settings, url, identity))
        await stack.enter_async_context(_identity_check(settings, url, identity))
        database = await stack.enter_async_context(_pool(settings, url, identity))
        answers = AnswerService(cache, database, editions, identity=identity, policy=policy)
        stack.push_async_callback(answers.close)
        writer = endpoints.databases.url("writer")
        ingest, storage = await stack.enter_async_context(_ingest(settings, writer, identity))
        ring = _key_ring(settings, url, writer, identity)
        clearing = CacheClearing(cache, editions, identity)
        await stack.enter_async_context(_running(clearing.keep()))
        erasing = Erasing(endpoints.database_url, clearing, storage)
        stack.push_async_callback(erasing.close)
        yield Resources(
            database,
            cache,
            answers,
            ingest,
            erasing,
            await stack.enter_async_context(ring),
            Readiness(database, cache, clearing, storage, within_s=settings.request_timeout_s),
            Memory(_REMEMBERED),
            identity,
            settings.rate_limit,
            settings.most_questions,
            settings.request_timeout_s,
            settings.erase_timeout_s,
            settings.metrics_token,
        )


@asynccontextmanager
async def _pool(settings: Settings, url: str, identity: Identity) -> AsyncIterator[Database]:
    """The connections of questions, kept warm and shown in the metrics; each knows its database."""
    size = settings.pool_size
    database = open_database(settings, url, size, "analytics", identity, identify=identity_of)
    try:
        async with _told(database, "questions"), _running(database.keep()):
            yield database
    finally:
        database.close()


@asynccontextmanager
async def _cache(settings: Settings, url: str, identity: Identity) -> AsyncIterator[CacheService]:
    """Connected, unless Redis is away: then it is later."""
    cache = open_cache(settings, url, identity)
    try:
        with suppress(CacheFailed):
            await cache.ping()
        yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def _editions(settings: Settings, url: str, identity: Identity) -> AsyncIterator[Editions]:
    """With a connection of its own: neither may a busy pool hide a late event, nor the watch
    take what questions wait for."""
    database = open_database(settings, url, 1, "analytics-editions", identity, identify=identity_of)
    editions = Editions(database, identity)
    try:
        with suppress(DatabaseError):
            await editions.look()
        async with _running(editions.keep()):
            yield editions
    finally:
        database.close()


@asynccontextmanager
async def _identity_check(settings: Settings, url: str, identity: Identity) -> AsyncIterator[None]:
    """With a connection for each check, beside those that live on: while none can be opened, for
    want of a slot, these have to go on."""
    database = open_database(
        settings,
        url,
        1,
        "analytics-identity",
        identity,
        lifetime_s=_ONE_USE_S,
        identify=identity_of,
    )
    try:
        async with _running(check_forever(identity, database)):
            yield
    finally:
        database.close()


@asynccontextmanager
async def _ingest(
    settings: Settings, url: str, identity: Identity
) -> AsyncIterator[tuple[IngestService, Storage]]:
    """With connections of its own: events and questions must not wait for each other."""
    size = settings.ingest_pool_size
    database = open_database(settings, url, size, "analytics-ingest", identity, INGEST_OPTIONS)
    try:
        storage = Storage(storage_limits(settings), database)
        await storage.look()
        async with _told(database, "events"), _running(storage.keep_looking()):
            yield IngestService(database, storage, settings.request_timeout_s), storage
    finally:
        database.close()


def open_cache(settings: Settings, url: str, identity: Identity) -> CacheService:
    return CacheService(
        url,
        settings.cache_timeout_s,
        request_s=settings.request_timeout_s,
        stale_s=settings.cache_stale_s,
        identity=identity,
    )


@asynccontextmanager
async def _key_ring(
    settings: Settings, url: str, writer_url: str, identity: Identity
) -> AsyncIterator[KeyRing]:
    """With a connection of its own: whoever takes all others must not keep a revoked key alive.

    Keys are read where they are written: a replica may lag behind.
    """
    urls = [writer_url] if url == writer_url else [writer_url, url]
    database, *others = (
        open_database(settings, each, 1, "analytics-keys", identity) for each in urls
    )
    instead = others[0] if others else None
    open_ = may_be_open(settings)
    keys = KeyRing(database, writer_url, instead=instead, may_be_open=open_)
    try:
        async with _running(keys.keep()), _running(keys.keep_telling()):
            yield keys
    finally:
        await keys.tell_used()
        for opened in filter(None, (database, instead)):
            opened.close()


def may_be_open(settings: Settings) -> bool:
    """Whether keys are needed only once there are some: on one's own machine and database."""
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
    """A pool whose connections are renewed as soon as the URL leads to another database."""
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
    identity.watch(database.pool.retire)
    return database


def _policy(settings: Settings) -> Policy:
    return Policy(
        enabled=settings.cache_enabled,
        open_s=settings.cache_open_s,
        closed_s=settings.cache_closed_s,
        request_s=settings.request_timeout_s,
    )


@asynccontextmanager
async def _told(database: Database, pool: Pool) -> AsyncIterator[None]:
    with published(database, pool) as publish:
        async with _running(_keep_publishing(publish)):
            yield


async def _keep_publishing(publish: Callable[[], None]) -> NoReturn:
    """So that the worker that is asked for metrics can show those of the others."""
    while True:
        await asyncio.sleep(1)
        publish()


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Work in the background that never ends by itself."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _tell_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("work in the background ended", exc_info=error)
