"""Break down the time of an uncached answer, by calls that each do one step more."""

import asyncio
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg2
from psycopg2.extensions import cursor

from bench.cases import QUESTIONS, Case, address, cases
from bench.layers import Call, measure, open_app, request_call
from bench.serving import zones
from common.questions.active_users import ActiveUsers
from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Cursor, get_connection
from repo.engine.watermark import WATERMARK
from repo.events import EventsRepo
from services.cache_service import Limits
from services.cached_response import PreparedQuery, render
from services.container import Resources
from services.embedded import Endpoints
from utils.postgres import prepare_command

TURNS = 200
_KINDS: dict[str, type[Counting]] = {"top_events": TopEvents, "active_users": ActiveUsers}

Parts = dict[str, float]


def anatomy(database_url: str, endpoints: Endpoints, say: Callable[[str], None]) -> None:
    """Print a table with a column per query: medians of alternating calls, in microseconds."""
    asyncio.run(_anatomy(database_url, endpoints.redis_url, say))


async def _anatomy(database_url: str, redis_url: str, say: Callable[[str], None]) -> None:
    (case, *_) = cases()
    columns: dict[str, Parts] = {}
    async with AsyncExitStack() as stack:
        shared = {"rate_limit": 0, "concurrency_limit": 0, **zones("time_zones")}
        app = await open_app(stack, database_url, redis_url, **shared)
        for question in [name for name in QUESTIONS if name != "user_events"]:
            inner = _PartialCalls(app.state.resources, question, case)
            full_request = request_call(app, address(question, case), fresh=True)
            durations = await measure({"whole": full_request, **inner.calls(database_url)}, TURNS)
            columns[QUESTIONS[question]] = _parts(durations)
    say("| us | " + " | ".join(columns) + " |")
    say("|---" * (len(columns) + 1) + "|")
    for part in next(iter(columns.values())):
        say(f"| {part} | " + " | ".join(f"{each[part]:,.0f}" for each in columns.values()) + " |")


def _parts(durations: Parts) -> Parts:
    inner = sum(durations[name] for name in ("redis", "method", "json"))
    return {
        "middleware, key, tasks, headers": durations["whole"] - inner,
        "two round trips to Redis": durations["redis"],
        "connection queue, a thread and back": durations["thread"],
        "pool, begin and commit": durations["snapshot"] - durations["thread"],
        "SQL and its transfer": durations["sql"],
        "plan, decoding, unions": durations["method"] - durations["snapshot"] - durations["sql"],
        "JSON and its digest": durations["json"],
        "whole": durations["whole"],
    }


class _PartialCalls:
    """Calls that each do a part of what a request does."""

    def __init__(self, resources: Resources, question: str, case: Case) -> None:
        self._resources = resources
        parameters = dict(parse_qsl(urlsplit(address(question, case)).query))
        kind = _KINDS.get(question, EventCounts)
        self._question = kind.model_validate_json(json.dumps(parameters))

    def calls(self, database_url: str) -> dict[str, Call]:
        statements = list(self._statements())
        conn = psycopg2.connect(database_url)
        cur = conn.cursor()
        cur.execute(prepare_command(WATERMARK))

        async def redis() -> None:
            lookup = await self._resources.cache.look_up("anatomy", Limits(), bypass=True)
            await self._resources.cache.release("anatomy", Limits(), lookup, None)

        async def thread() -> None:
            await self._run(lambda _: None)

        async def snapshot() -> None:
            await self._run(_empty_snapshot)

        async def method() -> None:
            await self._run(self._answer)

        async def sql() -> None:
            for statement in statements:
                statement(cur)

        return {
            "redis": redis,
            "thread": thread,
            "snapshot": snapshot,
            "method": method,
            "sql": sql,
            "json": self._json_call(),
        }

    def _answer(self, repo: EventsRepo) -> Any:
        return getattr(repo, f"get_{self._question.name}")(self._question.query)

    async def _run(self, work: Callable[[EventsRepo], Any]) -> Any:
        connection = get_connection(self._resources.database, time.monotonic() + 60)
        return await connection.run(lambda: work(EventsRepo(connection)))

    def _json_call(self) -> Call:
        answer: list[Any] = []
        query = PreparedQuery(
            self._question.name, "key", None, None, "", "json", False, lambda _: answer[0]
        )

        async def call() -> None:
            if not answer:
                answer.append(await self._run(self._answer))
            render(query, answer[0], compute_s=0, fresh_s=1)

        return call

    def _statements(self) -> Iterator[Callable[[cursor], None]]:
        """Yield the statements of the repo method, without begin and commit."""
        connection = get_connection(self._resources.database, time.monotonic() + 60)
        for _ in range(2):  # the first call fills the caches, so the second one reads less
            with _recorded_statements() as recorded:
                self._answer(EventsRepo(connection))
        yield from recorded[1:-1]


def _empty_snapshot(repo: EventsRepo) -> None:
    with repo.connection.snapshot():
        pass


def _execute(text: bytes, cur: cursor) -> None:
    cur.execute(text)
    if cur.description:
        cur.fetchall()


@contextmanager
def _recorded_statements() -> Iterator[list[Callable[[cursor], None]]]:
    recorded: list[Callable[[cursor], None]] = []
    execute, copy_expert = Cursor.execute, Cursor.copy_expert

    def recorded_execute(self: Cursor, query: Any, parameters: Any = None) -> None:
        execute(self, query, parameters)
        recorded.append(partial(_execute, self.query or b""))

    def recorded_copy(self: Cursor, text: str, *arguments: Any) -> None:
        copy_expert(self, text, *arguments)
        recorded.append(lambda cur: cur.copy_expert(text, io.BytesIO()))

    setattr(Cursor, "execute", recorded_execute)  # noqa: B010
    setattr(Cursor, "copy_expert", recorded_copy)  # noqa: B010
    try:
        yield recorded
    finally:
        setattr(Cursor, "execute", execute)  # noqa: B010
        setattr(Cursor, "copy_expert", copy_expert)  # noqa: B010
