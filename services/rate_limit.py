"""Enforcement of the rate limit and the concurrency limit of API keys."""

from common.errors import TooManyConcurrent, TooManyRequests
from common.metrics import LIMITED
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits


async def count_request(cache: CacheService, limits: Limits) -> CacheLookup | None:
    """Count a request that is not a question against the rate limit of its key.

    Returns what the key has left; None without a limit, and while Redis is unavailable.

    Raises: TooManyRequests.
    """
    if not limits.per_second:
        return None
    try:
        lookup = await cache.count(limits)
    except CacheFailed:
        LIMITED.labels("unknown").inc()
        return None
    refuse_over_limit(lookup, limits)
    return lookup


def refuse_over_limit(lookup: CacheLookup, limits: Limits) -> None:
    """Raise if the lookup hit a limit. Raises: TooManyRequests, TooManyConcurrent."""
    if lookup.verdict == "rate":
        LIMITED.labels("rate").inc()
        raise TooManyRequests(limits.per_second, lookup.wait_ms)
    if lookup.verdict == "slots":
        LIMITED.labels("at_once").inc()
        raise TooManyConcurrent(limits.concurrency)
