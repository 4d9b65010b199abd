"""Measure what each layer costs, by in-process requests with and without it."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.types import ASGIApp, Message

from common.questions.user_events import UserEvents
from config.database import get_connection
from config.settings import Settings
from main import create_app, lifespan
from repo.events import EventsRepo
from services.answering.question_request import RememberedRequest
from services.cache_service import Limits
from services.container import Resources
from tests.live_server import AUTHORIZED

HIT = "/analytics/event-counts?start=2025-01-01&end=2026-01-01"
MISS = "/analytics/users/nobody/events"
REQUESTS = 1_500
ROUNDS = 7

Call = Callable[[], Awaitable[None]]


async def layers(database_url: str, redis_url: str, say: Callable[[str], None]) -> None:
    """Print the median time of a request over alternating rounds, in microseconds."""
    async with AsyncExitStack() as stack:
        apps = {
            name: await open_app(stack, database_url, redis_url, **settings)
            for name, settings in {
                "whole": {"rate_limit": 100_000},
                "without limits": {"rate_limit": 0, "concurrency_limit": 0},
                "without a cache": {
                    "cache_enabled": False,
                    "rate_limit": 0,
                    "concurrency_limit": 0,
                },
            }.items()
        }
        full_app, unlimited, uncached = apps.values()
        resources: Resources = full_app.state.resources
        hits: dict[str, Call] = {
            "a hit, whole": request_call(full_app, HIT),
            "a hit without limits": request_call(unlimited, HIT),
            "a hit by the ordinary way (router, question)": routed_call(full_app, HIT),
            "the look-up alone": lookup_call(resources, Limits("bench", 100_000, 16)),
            "the look-up alone, without limits": lookup_call(resources, Limits()),
            "one GET of Redis alone": redis_get_call(redis_url),
            "/healthz (middleware, metrics, log line, router)": request_call(full_app, "/healthz"),
            "the check of the key alone": key_check_call(resources),
        }
        misses: dict[str, Call] = {
            "a miss, whole": request_call(full_app, MISS, fresh=True),
            "a miss without limits": request_call(unlimited, MISS, fresh=True),
            "a miss without limits and cache": request_call(uncached, MISS),
            "the repo method alone (thread, pool, snapshot, SQL)": repo_call(resources),
        }
        for calls in (hits, misses):
            for name, duration in (await measure(calls)).items():
                say(f"| {name} | {duration:,.0f} us |")


async def open_app(
    stack: AsyncExitStack, database_url: str, redis_url: str, **settings: Any
) -> FastAPI:
    urls = {"DATABASE_URL": SecretStr(database_url), "REDIS_URL": SecretStr(redis_url)}
    app = create_app(Settings(**{"concurrency_limit": 1000, **urls, **settings}))
    await stack.enter_async_context(lifespan(app))
    return app


async def measure(calls: dict[str, Call], requests: int = REQUESTS) -> dict[str, float]:
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(requests):
                await call()
            durations[name].append((time.perf_counter() - began) / requests * 1e6)
    return {name: statistics.median(each) for name, each in durations.items()}


def request_call(app: ASGIApp, address: str, *, fresh: bool = False) -> Call:
    parts = urlsplit(address)
    headers = {**AUTHORIZED, **({"Cache-Control": "no-cache"} if fresh else {})}
    scope = {
        "type": "http",
        "method": "GET",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "root_path": "",
    }

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200, message

    async def call() -> None:
        await app({**scope, "state": {}}, _never, send)

    return call


async def _never() -> Message:
    """Wait forever, like a client that stays connected and sends nothing more."""
    await asyncio.Event().wait()
    raise AssertionError


def routed_call(app: FastAPI, address: str) -> Call:
    call_app = request_call(app, address)
    cache = app.state.resources.recent_requests

    async def call() -> None:
        cache.clear()
        await call_app()

    return call


def lookup_call(resources: Resources, limits: Limits) -> Call:
    async def call() -> None:
        remembered: RememberedRequest = next(iter(resources.recent_requests.values()))
        lookup = await resources.cache.look_up(remembered.query.key, limits)
        assert lookup.verdict == "hit"

    return call


def redis_get_call(redis_url: str) -> Call:
    client = Redis.from_url(redis_url)

    async def call() -> None:
        await client.get("bare")

    return call


def key_check_call(resources: Resources) -> Call:
    async def call() -> None:
        assert resources.keys.check_cached(AUTHORIZED["Authorization"], "read")

    return call


def repo_call(resources: Resources) -> Call:
    question = UserEvents(user_id="nobody")

    async def call() -> None:
        connection = get_connection(resources.database, time.monotonic() + 10)
        repo = EventsRepo(connection)
        await connection.run(lambda: repo.get_user_events(question.query))

    return call
