"""From a question to its page: the cache first, else one flight to the repo."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from common.metrics import LIMITED, QUESTION_SECONDS, cache_requests
from config.database import Connection, Database, get_connection
from config.failures import DatabaseError
from services.cache_service import CacheFailed, CacheService, Found, Limits
from services.editions import Editions
from services.identity import Identity
from services.pages import Asked, Page, write
from services.rate_limit import refuse_over_limit
from services.single_flight import SingleFlight, Visit
from utils.tracing import span

CacheResult = Literal["hit", "miss", "stale"]

_NO_LIMITS = Limits()
_REFRESHING = Limits("refresh")
"""All pages that are renewed share the connections of one caller."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long answers are kept, in seconds; `enabled` is the kill switch."""

    enabled: bool
    open_s: int
    closed_s: int
    request_s: float

    def keeps(self, asked: Asked) -> bool:
        """Whether other processes may find the page: else they need not wait for it."""
        return self.enabled and (self.closed_s if asked.edition else self.open_s) > 0


@dataclass(slots=True)
class Served:
    """A page, and what there is to tell about it."""

    page: Page
    cache: CacheResult
    found: Found | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def age_s(self) -> int:
        return self.found.age_ms // 1000 if self.found and self.cache != "miss" else 0


class AnswerService:
    """Answers questions; what is over is kept for long, as long as no late event changes it."""

    def __init__(
        self,
        cache: CacheService,
        database: Database,
        editions: Editions,
        *,
        identity: Identity,
        policy: Policy,
    ) -> None:
        """`identity` tells apart the databases that share a cache, and may change."""
        self._cache = cache
        self._database = database
        self._editions = editions
        self._identity = identity
        self._policy = policy
        self._single = SingleFlight(cache, self._computed, stores=policy.enabled)
        self._refreshing: set[asyncio.Task[None]] = set()

    def current(self, asked: Asked) -> Asked:
        """The same question of this database, in the present edition, since the last erasure."""
        edition = self._editions.of(asked.months) if asked.months else None
        erasure, identity = self._editions.erasure, self._identity.value
        if (edition, erasure, identity) == (asked.edition, asked.erasure, asked.identity):
            return asked
        return replace(asked, edition=edition, erasure=erasure, identity=identity)

    async def look_up(self, asked: Asked, visit: Visit) -> Found | None:
        """What the cache says; None while Redis is away.

        Raises: TooManyRequests, TooManyAtOnce.
        """
        try:
            found = await self._cache.look_up(
                asked.key,
                visit.limits,
                overlook=self._overlooks(visit),
                leases=self._policy.keeps(asked),
            )
        except CacheFailed:
            if visit.limits:
                LIMITED.labels("unknown").inc()
            return None
        refuse_over_limit(found, visit.limits)
        return found

    def hit(self, asked: Asked, found: Found) -> Served | None:
        """The page if it will do; shortly before its end one of those who ask has it renewed."""
        if found.verdict != "hit" or found.page is None:
            return None
        cache_requests("hit").inc()
        if found.page.is_due(found.fresh_ms / 1000):
            self._refresh(asked)
        return Served(found.page, "hit", found)

    async def compute(self, asked: Asked, visit: Visit, found: Found | None) -> Served:
        """The page that was not found, or the old one while PostgreSQL is away.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        try:
            return Served(await self._page(asked, visit, found), "miss", found)
        except DatabaseError:
            page = await self._still_kept(asked) if found and found.page else None
            if page is None:
                raise
            cache_requests("stale").inc()
            return Served(page, "stale", found)

    async def close(self) -> None:
        """Nobody waits for what is still being renewed."""
        for task in self._refreshing:
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)

    async def _still_kept(self, asked: Asked) -> Page | None:
        """What an erasure has dropped since it was found is not served."""
        with suppress(CacheFailed):
            return await self._cache.page(self.current(asked).key)
        return None

    def _overlooks(self, visit: Visit) -> bool:
        return visit.fresh or not self._policy.enabled

    async def _page(self, asked: Asked, visit: Visit, found: Found | None) -> Page:
        if self._overlooks(visit):
            # A flight that took off before might not see what was committed since.
            cache_requests("bypass").inc()
            return await self._single.alone(asked, visit, found)
        joins = self._single.is_open(asked.key)
        cache_requests(_result(found, joins=joins)).inc()
        return await self._single.page(asked, visit, found)

    async def _computed(self, asked: Asked, visit: Visit) -> Page:
        connection = get_connection(self._database, visit.deadline, visit.limits.caller)
        return await self._timed(asked, connection)

    async def _timed(self, asked: Asked, connection: Connection) -> Page:
        began, source = time.perf_counter(), "none"
        try:
            page, source = await connection.run(lambda: self._written(asked, connection))
            return page
        finally:
            QUESTION_SECONDS.labels(asked.name, source).observe(time.perf_counter() - began)

    def _written(self, asked: Asked, connection: Connection) -> tuple[Page, str]:
        """With what it was answered from. Runs in a thread."""
        began = time.perf_counter()
        answer = asked.answer(connection)
        watched = asked.edition and answer.edition and answer.meta.is_settled
        kept_s = self._policy.closed_s if watched else self._policy.open_s
        if connection.identity != asked.identity:  # it leads to another database than its key says
            kept_s = 0
        with span("write"):
            page = write(asked, answer, compute_s=time.perf_counter() - began, fresh_s=kept_s)
        return page, answer.meta.source

    def _refresh(self, asked: Asked) -> None:
        if not self._single.is_open(asked.key):
            task = asyncio.create_task(self._refreshed(asked))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _refreshed(self, asked: Asked) -> None:
        visit = Visit(_REFRESHING, time.monotonic() + self._policy.request_s)
        with suppress(CacheFailed, DatabaseError):
            found = await self._cache.look_up(asked.key, _NO_LIMITS, overlook=True)
            if found.leads:
                cache_requests("refresh").inc()
                await self._single.page(asked, visit, found)


def _result(found: Found | None, *, joins: bool) -> str:
    if found is None:
        return "error"
    return "joined" if joins or not found.leads else "miss"
