"""What the application opens when it starts and closes when it stops."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from config.database import Database
from config.settings import Settings
from services.answer_service import AnswerService
from services.cache_service import CacheService, redis_client
from services.servers import servers
from utils.postgres import database_identity


@dataclass(frozen=True, slots=True)
class Resources:
    """What lives as long as the application."""

    database: Database
    cache: CacheService
    answers: AnswerService
    request_timeout_s: float


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Opened in this order and closed in the other. Raises: EmbeddedError."""
    async with AsyncExitStack() as stack:
        endpoints = stack.enter_context(servers(settings))
        questions = settings.query_database_url
        url = questions.get_secret_value() if questions else endpoints.database_url
        database = open_database(settings, url)
        stack.callback(database.close)
        client = redis_client(endpoints.redis_url, settings.cache_timeout_s)
        stack.push_async_callback(client.aclose)
        cache = CacheService(client, settings.cache_timeout_s)
        answers = AnswerService(
            cache,
            database_identity(url),
            open_s=settings.cache_open_s,
            closed_s=settings.cache_closed_s,
        )
        yield Resources(database, cache, answers, settings.request_timeout_s)


def open_database(settings: Settings, url: str) -> Database:
    return Database(
        url,
        size=settings.pool_size,
        waiters=settings.pool_waiters,
        acquire_timeout_s=settings.acquire_timeout_s,
        name=f"analytics-{os.getpid()}",
    )
