"""Where the time of an uncached answer goes, as differences of calls that do more and more."""

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

from common.base_questions import Counting
from common.questions import ActiveUsers, EventCounts, TopEvents
from config.database import Cursor, get_connection
from repo.events import EventsRepo
from repo.rollups.state import STATE
from services.cache_service import Limits
from services.embedded import Endpoints
from services.pages import Asked, write
from services.resources import Resources
from tests.benchmarks.cases import QUESTIONS, Case, address, cases
from tests.benchmarks.layers import Call, asking, measured, opened
from tests.benchmarks.serving import zones

TURNS = 200
_KINDS: dict[str, type[Counting]] = {"top_events": TopEvents, "active_users": ActiveUsers}

Parts = dict[str, float]


def anatomy(database_url: str, endpoints: Endpoints, say: Callable[[str], None]) -> None:
    """A column for each question, in microseconds; medians of calls that take turns."""
    asyncio.run(_anatomy(database_url, endpoints.redis_url, say))


async def _anatomy(database_url: str, redis_url: str, say: Callable[[str], None]) -> None:
    (case, *_) = cases()
    columns: dict[str, Parts] = {}
    async with AsyncExitStack() as stack:
        shared = {"rate_limit": 0, "at_once_limit": 0, **zones("time_zones")}
        app = await opened(stack, database_url, redis_url, **shared)
        for question in [name for name in QUESTIONS if name != "user_events"]:
            inner = _Inner(app.state.resources, question, case)
            whole = asking(app, address(question, case), fresh=True)
            taken = await measured({"whole": whole, **inner.calls(database_url)}, TURNS)
            columns[QUESTIONS[question]] = _parts(taken)
    say("| us | " + " | ".join(columns) + " |")
    say("|---" * (len(columns) + 1) + "|")
    for part in next(iter(columns.values())):
        say(f"| {part} | " + " | ".join(f"{each[part]:,.0f}" for each in columns.values()) + " |")


def _parts(taken: Parts) -> Parts:
    inner = sum(taken[name] for name in ("redis", "method", "json"))
    return {
        "middleware, key, tasks, headers": taken["whole"] - inner,
        "two round trips to Redis": taken["redis"],
        "a place in the queue, a thread and back": taken["thread"],
        "pool, begin and commit": taken["snapshot"] - taken["thread"],
        "SQL and its transfer": taken["sql"],
        "plan, decoding, unions": taken["method"] - taken["snapshot"] - taken["sql"],
        "JSON and its digest": taken["json"],
        "whole": taken["whole"],
    }


class _Inner:
    """Calls that do a part of what a request does."""

    def __init__(self, resources: Resources, question: str, case: Case) -> None:
        self._resources = resources
        given = dict(parse_qsl(urlsplit(address(question, case)).query))
        kind = _KINDS.get(question, EventCounts)
        self._question = kind.model_validate_json(json.dumps(given))

    def calls(self, database_url: str) -> dict[str, Call]:
        statements = list(self._statements())
        conn = psycopg2.connect(database_url)
        cur = conn.cursor()
        cur.execute(STATE.preparing)

        async def redis() -> None:
            found = await self._resources.cache.look_up("anatomy", Limits(), overlook=True)
            await self._resources.cache.settle("anatomy", Limits(), found, None)

        async def thread() -> None:
            await self._run(lambda _: None)

        async def snapshot() -> None:
            await self._run(_nothing)

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
            "json": self._writing(),
        }

    def _answer(self, repo: EventsRepo) -> Any:
        return getattr(repo, f"get_{self._question.name}")(self._question)

    async def _run(self, work: Callable[[EventsRepo], Any]) -> Any:
        connection = get_connection(self._resources.database, time.monotonic() + 60)
        return await connection.run(lambda: work(EventsRepo(connection)))

    def _writing(self) -> Call:
        answer: list[Any] = []
        asked = Asked(
            self._question.name, "key", None, None, "", "json", False, lambda _: answer[0]
        )

        async def call() -> None:
            if not answer:
                answer.append(await self._run(self._answer))
            write(asked, answer[0], compute_s=0, fresh_s=1)

        return call

    def _statements(self) -> Iterator[Callable[[cursor], None]]:
        """What the method sends, but for the first and the last: begin and commit."""
        connection = get_connection(self._resources.database, time.monotonic() + 60)
        for _ in range(2):  # what is remembered is not read again
            with _recorded() as sent:
                self._answer(EventsRepo(connection))
        yield from sent[1:-1]


def _nothing(repo: EventsRepo) -> None:
    with repo.connection.snapshot():
        pass


def _execute(text: bytes, cur: cursor) -> None:
    cur.execute(text)
    if cur.description:
        cur.fetchall()


@contextmanager
def _recorded() -> Iterator[list[Callable[[cursor], None]]]:
    sent: list[Callable[[cursor], None]] = []
    execute, copy_expert = Cursor.execute, Cursor.copy_expert

    def recorded_execute(self: Cursor, query: Any, given: Any = None) -> None:
        execute(self, query, given)
        sent.append(partial(_execute, self.query or b""))

    def recorded_copy(self: Cursor, text: str, *given: Any) -> None:
        copy_expert(self, text, *given)
        sent.append(lambda cur: cur.copy_expert(text, io.BytesIO()))

    setattr(Cursor, "execute", recorded_execute)  # noqa: B010
    setattr(Cursor, "copy_expert", recorded_copy)  # noqa: B010
    try:
        yield sent
    finally:
        setattr(Cursor, "execute", execute)  # noqa: B010
        setattr(Cursor, "copy_expert", copy_expert)  # noqa: B010
