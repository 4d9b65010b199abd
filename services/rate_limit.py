"""The limits of keys: what happens beyond them, and how requests count that ask no question."""

from common.errors import TooManyAtOnce, TooManyRequests
from common.metrics import LIMITED
from services.cache_service import CacheFailed, CacheService, Found, Limits


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


def refuse_over_limit(found: Found, limits: Limits) -> None:
    """Raises: TooManyRequests, TooManyAtOnce."""
    if found.verdict == "rate":
        LIMITED.labels("rate").inc()
        raise TooManyRequests(limits.per_second, found.wait_ms)
    if found.verdict == "slots":
        LIMITED.labels("at_once").inc()
        raise TooManyAtOnce(limits.at_once)
