"""The limits of keys: what happens beyond them, and how requests count that ask no question."""

from common.errors import TooManyConcurrent, TooManyRequests
from common.metrics import LIMITED
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits


async def count_request(cache: CacheService, limits: Limits) -> CacheLookup | None:
    """What the key has left; None without a limit, and while Redis is away.

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
    """Raises: TooManyRequests, TooManyAtOnce."""
    if lookup.verdict == "rate":
        LIMITED.labels("rate").inc()
        raise TooManyRequests(limits.per_second, lookup.wait_ms)
    if lookup.verdict == "slots":
        LIMITED.labels("at_once").inc()
        raise TooManyConcurrent(limits.concurrency)
