"""Single flight: a response that several requests need at once is computed once.

Within a process, requests join the open flight of the response. Across processes, Redis grants a
lease to one request, which hands it to the flight of its process; the flights of the other
processes poll Redis until the response is stored.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from config.database import Connection
from config.database_errors import DeadlineExceeded, PoolBusy
from repo.events import EventsRepo
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits
from services.cached_response import CachedResponse, PreparedQuery
from services.disconnect import run_after_delay
from utils import tracing

T = TypeVar("T")

_NO_LIMITS = Limits()
_POLL_EVERY_S = 0.02
_MAX_FAILED_LOOKUPS = 2  # in a row; then the response is computed here
_HEARTBEAT_EVERY_S = 0.3
# `statement_timeout` is rounded down to milliseconds: PostgreSQL may cancel a statement a little
# before the deadline.
_DEADLINE_TOLERANCE_S = 0.005


class BoundRepo(NamedTuple):
    """The repo of one request, and the connection in whose thread it runs its queries."""

    repo: EventsRepo
    connection: Connection
    is_override: bool = False
    """Whether the handler has another repo, which may ignore the connection: nothing is cached."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """The limits, deadline and repo of a request."""

    limits: Limits
    deadline: float
    """In monotonic time."""
    bound: BoundRepo | None = None
    """The repo of the request; None: one is created if the response must be computed."""
    fresh: bool = False
    """Whether to skip the cache."""


class Lease:
    """The right to compute a response, which Redis grants to one request of all processes.

    It belongs to the flight, whichever of its requests it was granted to. The token "" means none.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._granted = asyncio.Event()
        self._is_closed = False

    @property
    def token(self) -> str:
        return self._token

    def accept(self, token: str) -> bool:
        """Take over a lease that was granted to a request of the flight.

        Returns false if the flight has ended: the request has to release the lease itself then.
        """
        if not self._is_closed:
            # No lease is lost here: Redis grants one only after the one before has expired.
            self._token = token
            self._granted.set()
        return not self._is_closed

    async def wait_granted(self, timeout_s: float) -> None:
        """Wait until a lease is accepted, at most for `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._granted.wait()

    def close(self) -> str:
        """The token to release now, "" if there is none. No lease is accepted afterwards."""
        self._is_closed = True
        return self._token


class Flight(Generic[T]):
    """A computation that several requests wait for.

    `ends_at` is its deadline in monotonic time, and `caller` is charged with its connection; both
    are those of the request that started it.
    """

    def __init__(
        self, work: Coroutine[Any, Any, T], lease: Lease, ends_at: float, caller: str
    ) -> None:
        self.task = asyncio.create_task(work)
        self.lease = lease
        self.ends_at = ends_at
        self.caller = caller
        self.waiting = 0


class Flights(Generic[T]):
    """The open flights by key. A flight is cancelled once no request waits for it."""

    def __init__(self) -> None:
        self._open: dict[str, Flight[T]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._open

    def get(self, key: str) -> Flight[T] | None:
        return self._open.get(key)

    def start(
        self, key: str, work: Coroutine[Any, Any, T], lease: Lease, *, ends_at: float, caller: str
    ) -> Flight[T]:
        flight = self._open[key] = Flight(work, lease, ends_at, caller)
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    async def join(self, key: str, flight: Flight[T]) -> T:
        """Wait for a flight, and return or raise what its work does."""
        flight.waiting += 1
        try:
            with tracing.span("flight"):
                # Shielded: the cancellation of one request must not end the work for the others.
                return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._land(key, flight)

    def _land(self, key: str, flight: Flight[T]) -> None:
        if self._open.get(key) is flight:
            del self._open[key]
        if not flight.task.done():
            flight.task.cancel()
        elif not flight.task.cancelled():
            # The requests that waited have received the exception. If none did, asyncio would log
            # it as never retrieved.
            flight.task.exception()


Compute = Callable[[PreparedQuery, CallContext], Awaitable[CachedResponse]]


class SingleFlight:
    """Computes responses, and stores them in the cache."""

    def __init__(self, cache: CacheService, compute: Compute, *, may_store: bool) -> None:
        """`may_store` false: responses are not stored."""
        self._cache = cache
        self._compute = compute
        self._may_store = may_store
        self._flights: Flights[CachedResponse] = Flights()

    def is_open(self, key: str) -> bool:
        """Whether a flight for this key is open in this process."""
        return key in self._flights

    async def fetch(
        self, query: PreparedQuery, context: CallContext, lookup: CacheLookup | None
    ) -> CachedResponse:
        """The response, from the open flight or a new one; `lookup` is the miss that led here.

        A flight has the deadline and the connections of the request that started it. If these run
        out, its other requests start the next flight, if they have time left.

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
        """A response whose computation starts now, even if a flight is open.

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
        # Redis may grant the lease to a request that joins: the flight started while Redis was
        # unavailable, or the process that the flight waits for has lost its lease.
        lease = lookup.token if lookup and lookup.holds_lease else ""
        if lease and flight.lease.accept(lease):
            lease = ""
        try:
            return await self._await_flight(flight, query.key, context)
        except (DeadlineExceeded, PoolBusy) as error:
            if not _concerns_others(error, flight, context):
                raise
            latest = await self._look_up_again(query.key)
            # Without limits, since this request holds a slot already, which is released below.
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
        """The response that another process computes, else one that is computed here."""
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
        """The last lookup, once the other process is done: a hit if it stored its response.

        Raises: DeadlineExceeded.
        """
        try:
            async with asyncio.timeout(context.deadline - time.monotonic()):
                return await self._poll_until_done(key, lookup, lease)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _poll_until_done(self, key: str, lookup: CacheLookup, lease: Lease) -> CacheLookup:
        holder, failures = lookup.holder, 0
        # Once another process holds the lease, waiting is pointless: the response of the first
        # holder was not stored, so that of the next one would not be either.
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
        """Renew the lease again and again, so that other processes keep waiting."""
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
        """Store the response if there is one, and release the slot and the lease."""
        with suppress(CacheFailed):
            if lookup:
                stored = response if self._may_store else None
                await self._cache.release(query.key, context.limits, lookup, stored, lease=lease)
            elif lease:
                await self._cache.return_lease(query.key, lease)


def _concerns_others(
    error: Exception, flight: Flight[CachedResponse], context: CallContext
) -> bool:
    """Whether a flight failed for reasons of the request that started it, its deadline or the
    connections of its caller, and this request has time left."""
    now = time.monotonic()
    is_other_caller = isinstance(error, PoolBusy) and context.limits.caller != flight.caller
    return now < context.deadline and (
        is_other_caller or flight.ends_at - _DEADLINE_TOLERANCE_S <= now
    )


def _lease_of(lookup: CacheLookup | None) -> Lease:
    return Lease(lookup.token if lookup and lookup.holds_lease else "")
