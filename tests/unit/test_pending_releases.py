"""Releases that failed are sent again, in their order."""

import asyncio
from typing import Any, cast

import pytest

from services.answering.pending_releases import PendingReleases
from services.redis_client import MultiplexedRedis, Script


class Client:
    """Runs scripts, except while it is down."""

    def __init__(self) -> None:
        self.is_down = False
        self.keys: list[str] = []

    async def run(self, _: Script, key: str, *__: Any) -> None:
        if self.is_down:
            raise OSError("down")
        self.keys.append(key)


def pending(client: Client, *keys: str) -> PendingReleases:
    releases = PendingReleases(cast(MultiplexedRedis, client), Script("return 1", 4))
    for key in keys:
        releases.add(key, "caller", "token", "lease")
    return releases


def test_each_release_is_sent_once() -> None:
    client = Client()
    releases = pending(client, "a", "b")
    for _ in range(2):
        asyncio.run(releases.run())
    assert client.keys == ["a", "b"]


def test_a_release_that_fails_stays_first() -> None:
    client = Client()
    releases = pending(client, "a", "b")
    client.is_down = True
    with pytest.raises(OSError, match="down"):
        asyncio.run(releases.run())
    client.is_down = False
    asyncio.run(releases.run())
    assert client.keys == ["a", "b"]


def test_only_the_last_thousand_are_kept() -> None:
    client = Client()
    asyncio.run(pending(client, *map(str, range(1_001))).run())
    assert (len(client.keys), client.keys[0]) == (1_000, "1")


def test_the_release_of_one_request_names_its_token_twice() -> None:
    name, text, keys, key, *rest = pending(Client()).command("a", "caller", "token")
    assert (name, text, keys, key) == ("EVAL", "return 1", 4, "a")
    assert rest.count("token") == 2
