"""Limits of API keys, as Redis has counted them."""

import asyncio
from typing import cast

import pytest

from common.errors import TooManyConcurrent, TooManyRequests
from services.cache_service import CacheFailed, CacheLookup, CacheService, Limits, Verdict
from services.rate_limit import count_request, refuse_over_limit

LIMITS = Limits("key", per_second=10, concurrency=2)


def lookup(verdict: Verdict) -> CacheLookup:
    return CacheLookup(verdict, "", 3, 200, False, b"", 0, 0, 0, None)


class Cache:
    """Counts each request as the same verdict; without one it fails."""

    def __init__(self, verdict: Verdict | None) -> None:
        self._verdict = verdict

    async def count(self, _: Limits) -> CacheLookup:
        if self._verdict is None:
            raise CacheFailed
        return lookup(self._verdict)


def counted(verdict: Verdict | None, limits: Limits = LIMITS) -> CacheLookup | None:
    return asyncio.run(count_request(cast(CacheService, Cache(verdict)), limits))


def test_a_request_within_the_limit_learns_what_is_left() -> None:
    assert counted("miss") == lookup("miss")


def test_a_request_above_the_limit_is_refused() -> None:
    with pytest.raises(TooManyRequests):
        counted("rate")


def test_requests_pass_while_redis_is_unavailable() -> None:
    assert counted(None) is None


def test_keys_without_a_rate_are_not_counted() -> None:
    assert counted("rate", Limits("key", concurrency=2)) is None


def test_a_question_above_the_concurrency_is_refused() -> None:
    with pytest.raises(TooManyConcurrent, match="2"):
        refuse_over_limit(lookup("slots"), LIMITS)
