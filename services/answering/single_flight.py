"""A page that many ask for at once is computed once: in this process, and across processes.

In a process, requests join the flight of a page. Across processes, Redis grants a lease for it: one
request has it and brings it to the flight of its process, the flights of others wait for the page.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from config.database_errors import DeadlineExceeded, PoolBusy
from services.answering.local_flights import Flight, Flights, Lease
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits
from services.cached_response import CachedResponse, PreparedQuery
from utils.delayed_task import run_after_delay

_NO_LIMITS = Limits()
_POLL_EVERY_S = 0.02
_MAX_FAILED_LOOKUPS = 2  # in a row, before Redis is not waited for any more
_HEARTBEAT_EVERY_S = 0.3
_DEADLINE_TOLERANCE_S = 0.005  # a statement may end so long before the deadline that it was given


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who asks, up to when there is time, and whether only a new answer will do."""

    limits: Limits
    deadline: float
    fresh: bool = False


Compute = Callable[[PreparedQuery, CallContext], Awaitable[CachedResponse]]


class SingleFlight:
    """Computes pages, and stores them."""

    def __init__(self, cache: CacheService, compute: Compute, *, may_store: bool) -> None:
        """`stores`: whether there is a cache that pages are kept in."""
        self._cache = cache
        self._compute = compute
        self._may_store = may_store
        self._flights: Flights[CachedResponse] = Flights()

    def is_open(self, key: str) -> bool:
        """Whether this process computes the page of this key, or waits for it."""
        return key in self._flights

    async def fetch(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None
    ) -> CachedResponse:
        """The page that `found` is not, of the open flight or of a new one.

        A request is told when its time is up, or its caller has no connection left; others of the
        same flight that still have time go on with the next.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        flight = self._flights.get(query.key)
        if flight is not None:
            return await self._join(flight, query, context, lookup)
        lease = _lease_of(lookup)
        work = self._run_flight(query, context, lookup, lease)
        flight = self._flights.start(
            query.key, work, lease, ends_at=context.deadline, caller=context.limits.caller
        )
        return await self._await_flight(flight, query.key, context)

    async def fetch_alone(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None
    ) -> CachedResponse:
        """A page that begins to be computed now, whatever flight is open.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        lease, response = _lease_of(lookup), None
        try:
            response = await self._compute_with_heartbeat(query, context, lease)
            return response
        finally:
            await self._release(query, context, lookup, lease.close(), response)

    async def _join(
        self,
        flight: Flight[CachedResponse],
        query: PreparedQuery,
        context: CallContext,
        lookup: CacheLookup | None,
    ) -> CachedResponse:
        lease = lookup.token if lookup and lookup.holds_lease else ""
        if lease and flight.lease.accept(lease):
            lease = ""
        try:
            return await self._await_flight(flight, query.key, context)
        except (DeadlineExceeded, PoolBusy) as error:
            if not _concerns_others(error, flight, context):
                raise
            latest = await self._look_up_again(query.key)
            next_context = replace(context, limits=Limits(context.limits.caller))
            return await self.fetch(query, next_context, latest)
        finally:
            if lease or context.limits.concurrency:
                await self._release(query, context, lookup, lease)

    async def _await_flight(
        self, flight: Flight[CachedResponse], key: str, context: CallContext
    ) -> CachedResponse:
        try:
            async with asyncio.timeout(context.deadline - time.monotonic()):
                return await self._flights.join(key, flight)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _run_flight(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None, lease: Lease
    ) -> CachedResponse:
        """Wait for the page that another process computes, or else compute it."""
        response = None
        try:
            if lookup and not lease.token:
                lookup = await self._await_other_process(query.key, context, lookup, lease)
                if lookup.verdict == "hit" and lookup.response:
                    return lookup.response
            response = await self._compute_with_heartbeat(query, context, lease)
            return response
        finally:
            await self._release(query, context, lookup, lease.close(), response)

    async def _await_other_process(
        self, key: str, context: CallContext, lookup: CacheLookup, lease: Lease
    ) -> CacheLookup:
        """What Redis says once the process that computes is done: the page if it was kept.

        Raises: DeadlineExceeded.
        """
        try:
            async with asyncio.timeout(context.deadline - time.monotonic()):
                return await self._poll_until_done(key, lookup, lease)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _poll_until_done(self, key: str, lookup: CacheLookup, lease: Lease) -> CacheLookup:
        """Others may hold the lease after the first holder; that one's page was not kept then, and
        theirs would not be either."""
        holder, failures = lookup.holder, 0
        while lookup.verdict != "hit" and holder == lookup.holder != b"" and not lease.token:
            await lease.wait_granted(_POLL_EVERY_S)
            if lease.token or failures == _MAX_FAILED_LOOKUPS:
                break
            latest = await self._look_up_again(key)
            failures = 0 if latest else failures + 1
            if latest:
                lookup = replace(latest, token=lookup.token)
                if latest.holds_lease and not lease.token:
                    lease.accept(latest.token)
        return lookup

    async def _look_up_again(self, key: str) -> CacheLookup | None:
        with suppress(CacheFailed):
            return await self._cache.look_up(key, _NO_LIMITS)
        return None

    async def _compute_with_heartbeat(
        self, query: PreparedQuery, context: CallContext, lease: Lease
    ) -> CachedResponse:
        with run_after_delay(_HEARTBEAT_EVERY_S, lambda: self._heartbeat(query.key, lease)):
            return await self._compute(query, context)

    async def _heartbeat(self, key: str, lease: Lease) -> None:
        """Tell other processes now and then that the page is being computed."""
        while True:
            with suppress(CacheFailed):
                if lease.token:
                    await self._cache.renew_lease(key, lease.token)
            await asyncio.sleep(_HEARTBEAT_EVERY_S)

    async def _release(
        self,
        query: PreparedQuery,
        context: CallContext,
        lookup: CacheLookup | None,
        lease: str,
        response: CachedResponse | None = None,
    ) -> None:
        """Store the page if there is one, and return what Redis granted."""
        with suppress(CacheFailed):
            if lookup:
                stored = response if self._may_store else None
                await self._cache.release(query.key, context.limits, lookup, stored, lease=lease)
            elif lease:
                await self._cache.return_lease(query.key, lease)


def _concerns_others(
    error: Exception, flight: Flight[CachedResponse], context: CallContext
) -> bool:
    """Whether the time of the request that began the flight is up, or its caller has no connection
    left, while this one has time."""
    now = time.monotonic()
    is_other_caller = isinstance(error, PoolBusy) and context.limits.caller != flight.caller
    return now < context.deadline and (
        is_other_caller or flight.ends_at - _DEADLINE_TOLERANCE_S <= now
    )


def _lease_of(lookup: CacheLookup | None) -> Lease:
    return Lease(lookup.token if lookup and lookup.holds_lease else "")
