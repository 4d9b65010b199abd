"""Pending releases: leases and concurrency slots that could not be released while Redis failed."""

from collections import deque
from typing import Any

from services.lease_and_limit_keys import flight_key, slots_key
from services.redis_client import Command, MultiplexedRedis, Script

_MAX_PENDING = 1_000  # older ones are dropped, since leases and slots also expire in Redis


class PendingReleases:
    """The releases to send once Redis is available again."""

    def __init__(self, client: MultiplexedRedis, release: Script) -> None:
        self._client = client
        self._release = release
        self._pending: deque[tuple[Any, ...]] = deque(maxlen=_MAX_PENDING)

    def add(self, key: str, caller: str, token: str, lease: str) -> None:
        """Let the next `run` release the concurrency slot `token` of a caller, and a lease."""
        self._pending.append(_arguments(key, caller, token, lease))

    def command(self, key: str, caller: str, token: str) -> Command:
        """The Redis command that releases the slot and the lease of one request now."""
        return self._release.command(*_arguments(key, caller, token, token))

    async def run(self) -> None:
        """Send all releases; one that fails stays for the next run. Raises: RedisError, OSError."""
        while self._pending:
            first = self._pending.popleft()
            try:
                await self._client.run(self._release, *first)
            except BaseException:
                self._pending.appendleft(first)
                raise


def _arguments(key: str, caller: str, token: str, lease: str) -> tuple[Any, ...]:
    """Arguments of `store_and_release.lua` for a release without a response."""
    return (key, flight_key(key), slots_key(caller), key, token, lease, b"", 0, 0, 0, 0)
