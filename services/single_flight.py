"""A page that many ask for at once is computed once: in this process, and across processes.

In a process, requests join the flight of a page. Across processes, Redis grants a lease for it: one
request has it and brings it to the flight of its process, the flights of others wait for the page.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from config.failures import DeadlineExceeded, PoolBusy
from services.cache_service import CacheFailed, CacheService, Found, Limits
from services.flights import Flight, Flights, Lease
from services.pages import Asked, Page
from utils.meanwhile import meanwhile

_NO_LIMITS = Limits()
_LOOK_AGAIN_S = 0.02
_LOOKS_THAT_FAIL = 2  # in a row, before Redis is not waited for any more
_SIGN_OF_LIFE_S = 0.3
_ROUNDING_S = 0.005  # a statement may end so long before the deadline that it was given


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks, up to when there is time, and whether only a new answer will do."""

    limits: Limits
    deadline: float
    fresh: bool = False


Compute = Callable[[Asked, Visit], Awaitable[Page]]


class SingleFlight:
    """Computes pages, and stores them."""

    def __init__(self, cache: CacheService, compute: Compute, *, stores: bool) -> None:
        """`stores`: whether there is a cache that pages are kept in."""
        self._cache = cache
        self._compute = compute
        self._stores = stores
        self._flights: Flights[Page] = Flights()

    def is_open(self, key: str) -> bool:
        """Whether this process computes the page of this key, or waits for it."""
        return key in self._flights

    async def page(self, asked: Asked, visit: Visit, found: Found | None) -> Page:
        """The page that `found` is not, of the open flight or of a new one.

        A request is told when its time is up, or its caller has no connection left; others of the
        same flight that still have time go on with the next.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        flight = self._flights.get(asked.key)
        if flight is not None:
            return await self._joined(flight, asked, visit, found)
        lease = _lease_of(found)
        work = self._flight(asked, visit, found, lease)
        flight = self._flights.start(
            asked.key, work, lease, ends_at=visit.deadline, caller=visit.limits.caller
        )
        return await self._landed(flight, asked.key, visit)

    async def alone(self, asked: Asked, visit: Visit, found: Found | None) -> Page:
        """A page that begins to be computed now, whatever flight is open.

        Raises: PoolBusy, DeadlineExceeded, DatabaseUnavailable.
        """
        lease, page = _lease_of(found), None
        try:
            page = await self._computed(asked, visit, lease)
            return page
        finally:
            await self._settle(asked, visit, found, lease.close(), page)

    async def _joined(
        self, flight: Flight[Page], asked: Asked, visit: Visit, found: Found | None
    ) -> Page:
        lease = found.token if found and found.leads else ""
        if lease and flight.lease.take_over(lease):
            lease = ""
        try:
            return await self._landed(flight, asked.key, visit)
        except (DeadlineExceeded, PoolBusy) as error:
            if not _concerns_others(error, flight, visit):
                raise
            again = await self._looked_again(asked.key)
            goes_on = replace(visit, limits=Limits(visit.limits.caller))
            return await self.page(asked, goes_on, again)
        finally:
            if lease or visit.limits.at_once:
                await self._settle(asked, visit, found, lease)

    async def _landed(self, flight: Flight[Page], key: str, visit: Visit) -> Page:
        try:
            async with asyncio.timeout(visit.deadline - time.monotonic()):
                return await self._flights.join(key, flight)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _flight(self, asked: Asked, visit: Visit, found: Found | None, lease: Lease) -> Page:
        """Wait for the page that another process computes, or else compute it."""
        page = None
        try:
            if found and not lease.token:
                found = await self._awaited(asked.key, visit, found, lease)
                if found.verdict == "hit" and found.page:
                    return found.page
            page = await self._computed(asked, visit, lease)
            return page
        finally:
            await self._settle(asked, visit, found, lease.close(), page)

    async def _awaited(self, key: str, visit: Visit, found: Found, lease: Lease) -> Found:
        """What Redis says once the process that computes is done: the page if it was kept.

        Raises: DeadlineExceeded.
        """
        try:
            async with asyncio.timeout(visit.deadline - time.monotonic()):
                return await self._last_look(key, found, lease)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _last_look(self, key: str, found: Found, lease: Lease) -> Found:
        """Others may hold the lease after the first holder; that one's page was not kept then, and
        theirs would not be either."""
        holder, failed = found.holder, 0
        while found.verdict != "hit" and holder == found.holder != b"" and not lease.token:
            await lease.granted_within(_LOOK_AGAIN_S)
            if lease.token or failed == _LOOKS_THAT_FAIL:
                break
            again = await self._looked_again(key)
            failed = 0 if again else failed + 1
            if again:
                found = replace(again, token=found.token)
                if again.leads and not lease.token:
                    lease.take_over(again.token)
        return found

    async def _looked_again(self, key: str) -> Found | None:
        with suppress(CacheFailed):
            return await self._cache.look_up(key, _NO_LIMITS)
        return None

    async def _computed(self, asked: Asked, visit: Visit, lease: Lease) -> Page:
        with meanwhile(_SIGN_OF_LIFE_S, lambda: self._give_signs_of_life(asked.key, lease)):
            return await self._compute(asked, visit)

    async def _give_signs_of_life(self, key: str, lease: Lease) -> None:
        """Tell other processes now and then that the page is being computed."""
        while True:
            with suppress(CacheFailed):
                if lease.token:
                    await self._cache.renew(key, lease.token)
            await asyncio.sleep(_SIGN_OF_LIFE_S)

    async def _settle(
        self, asked: Asked, visit: Visit, found: Found | None, lease: str, page: Page | None = None
    ) -> None:
        """Store the page if there is one, and return what Redis granted."""
        with suppress(CacheFailed):
            if found:
                kept = page if self._stores else None
                await self._cache.settle(asked.key, visit.limits, found, kept, lease=lease)
            elif lease:
                await self._cache.give_back(asked.key, lease)


def _concerns_others(error: Exception, flight: Flight[Page], visit: Visit) -> bool:
    """Whether the time of the request that began the flight is up, or its caller has no connection
    left, while this one has time."""
    now = time.monotonic()
    is_share = isinstance(error, PoolBusy) and visit.limits.caller != flight.caller
    return now < visit.deadline and (is_share or flight.ends_at - _ROUNDING_S <= now)


def _lease_of(found: Found | None) -> Lease:
    return Lease(found.token if found and found.leads else "")
