"""Requests that look nothing up in the cache, counted against the rate of their key."""

from common.metrics import LIMITED
from services.cache_service import CacheFailed, CacheService, Found, Limits, refuse_over_limit


async def count_request(cache: CacheService, limits: Limits) -> Found | None:
    """What the key has left; None without a limit, and while Redis is away.

    Raises: TooManyRequests.
    """
    if not limits.per_second:
        return None
    try:
        found = await cache.count(limits)
    except CacheFailed:
        LIMITED.labels("unknown").inc()
        return None
    refuse_over_limit(found, limits)
    return found
