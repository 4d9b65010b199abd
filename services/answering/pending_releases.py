"""What requests held in Redis and Redis was not told the end of: it is told later."""

from collections import deque
from typing import Any

from services.cache_keys import flight_key, slots_key
from services.redis_client import Command, MultiplexedRedis, Script

_MAX_PENDING = 1_000  # what is older ends by itself


class PendingReleases:
    """Of questions at a time, and of leases."""

    def __init__(self, client: MultiplexedRedis, release: Script) -> None:
        self._client = client
        self._release = release
        self._pending: deque[tuple[Any, ...]] = deque(maxlen=_MAX_PENDING)

    def add(self, key: str, caller: str, token: str, lease: str) -> None:
        """To be released with the next `run`: the question `token` of a caller, and the lease."""
        self._pending.append(_arguments(key, caller, token, lease))

    def command(self, key: str, caller: str, token: str) -> Command:
        """That which releases both at once."""
        return self._release.command(*_arguments(key, caller, token, token))

    async def run(self) -> None:
        """Release all. Those that fail are tried again. Raises: RedisError, OSError."""
        while self._pending:
            first = self._pending.popleft()
            try:
                await self._client.run(self._release, *first)
            except BaseException:
                self._pending.appendleft(first)
                raise


def _arguments(key: str, caller: str, token: str, lease: str) -> tuple[Any, ...]:
    """What `settle.lua` is told where there is no page to store."""
    return (key, flight_key(key), slots_key(caller), key, token, lease, b"", 0, 0, 0, 0)
