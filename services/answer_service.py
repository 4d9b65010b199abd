"""From a question to the bytes of its answer: the cache first, else the repo and then the cache."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from common.answers import Answer, Meta
from common.metrics import CACHE_REQUESTS, QUESTION_SECONDS
from common.questions import Question
from config.database import Connection
from services.cache_service import CacheFailed, CacheService, Page
from utils.exports import MEDIA_TYPES, Format, as_csv, as_json, as_ndjson

Q = TypeVar("Q", bound=Question)

CacheResult = Literal["hit", "miss", "error", "bypass"]

_VERSION = 1  # of the form of pages and answers; a new one leaves the old pages to expire


@dataclass(frozen=True, slots=True)
class Served:
    page: Page
    cache: CacheResult


class AnswerService:
    """Answers questions; closed ranges are kept for longer than open ones."""

    def __init__(self, cache: CacheService, database: str, *, open_s: int, closed_s: int) -> None:
        """`database` tells apart the databases that share a cache."""
        self._cache = cache
        self._prefix = f"analytics:{_VERSION}:{database}"
        self._open_s = open_s
        self._closed_s = closed_s

    async def answer(
        self,
        connection: Connection,
        method: Callable[[Q], Answer[Any]],
        question: Q,
        *,
        form: Format,
        fresh: bool,
    ) -> Served:
        """The answer as `form`; `fresh` does not look into the cache.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        key = f"{self._prefix}:{question.name}:{form}:{question.fingerprint()}"
        cached, result = (None, "bypass") if fresh else await self._cached(key)
        CACHE_REQUESTS.labels(result).inc()
        if cached is not None:
            return Served(cached, result)
        with QUESTION_SECONDS.labels(question.name).time():
            page, ttl_s = await connection.run(lambda: self._compute(method, question, key, form))
        if result != "error":  # a Redis that just failed is not waited for again
            await self._keep(page, ttl_s)
        return Served(page, result)

    async def _cached(self, key: str) -> tuple[Page | None, CacheResult]:
        try:
            page = await self._cache.get(key)
        except CacheFailed:
            return None, "error"
        return page, "hit" if page else "miss"

    async def _keep(self, page: Page, ttl_s: int) -> None:
        with suppress(CacheFailed):
            if ttl_s:
                await self._cache.put(page, ttl_s)

    def _compute(
        self, method: Callable[[Q], Answer[Any]], question: Q, key: str, form: Format
    ) -> tuple[Page, int]:
        """Runs in a thread: large answers take a while to write down."""
        answer = method(question)
        page = Page(key, MEDIA_TYPES[form], _headers(answer.meta), _body(answer, form))
        return page, self._closed_s if answer.meta.is_over else self._open_s


def _headers(meta: Meta) -> dict[str, str]:
    """What CSV and NDJSON have no other place for."""
    cursors = {"X-Next-Cursor": "next_cursor", "X-Previous-Cursor": "previous_cursor"}
    found = {header: getattr(meta, name, None) for header, name in cursors.items()}
    return {header: cursor for header, cursor in found.items() if cursor}


def _body(answer: Answer[Any], form: Format) -> bytes:
    if form == "json":
        return as_json(answer)
    row_type, rows = answer.table()
    return as_csv(row_type, rows) if form == "csv" else as_ndjson(rows)
