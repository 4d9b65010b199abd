"""Connections are shared fairly by callers, however many requests one of them has."""

import asyncio
import time

import pytest

from config.database_errors import PoolBusy
from config.fair_queue import FairQueue, PoolStats, max_per_caller

SOON_S = 20.0


def fair_queue(size: int, *, waiters: int = 100, timeout_s: float = SOON_S) -> FairQueue:
    return FairQueue(size, waiters, timeout_s, PoolStats(size))


class Callers:
    """Requests that take places, and the order in which they get them."""

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue
        self.served: list[str] = []

    async def ask(self, name: str) -> "asyncio.Task[None]":
        """The first letter of the name is its caller."""
        task = asyncio.create_task(self._acquire(name))
        await asyncio.sleep(0)
        return task

    async def _acquire(self, name: str) -> None:
        await self._queue.acquire(time.monotonic() + SOON_S, name[0])
        self.served.append(name)

    async def release(self, *callers: str) -> None:
        for caller in callers:
            self._queue.release(caller)
            await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("size", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (8, 6), (100, 75)]
)
def test_a_caller_may_hold_three_quarters(size: int, most: int) -> None:
    assert max_per_caller(size) == most


def test_a_caller_cannot_take_the_last_connections() -> None:
    async def run() -> list[str]:
        asking = Callers(fair_queue(4))
        for name in ("a1", "a2", "a3", "a4", "b1"):
            await asking.ask(name)
        await asking.release("b")
        assert asking.served == ["a1", "a2", "a3", "b1"]
        await asking.release("a")
        return asking.served

    assert asyncio.run(run()) == ["a1", "a2", "a3", "b1", "a4"]


def test_who_needs_no_key_may_hold_all() -> None:
    async def run() -> None:
        of = fair_queue(4)
        for _ in range(4):
            await of.acquire(time.monotonic() + SOON_S)
        assert of.is_exhausted

    asyncio.run(run())


def test_callers_take_turns_and_each_is_served_in_order() -> None:
    async def run() -> list[str]:
        asking = Callers(fair_queue(1))
        for name in ("x", "a1", "a2", "a3", "b1", "b2", "c1"):
            await asking.ask(name)
        for _ in range(6):
            await asking.release(asking.served[-1][0])
        return asking.served

    assert asyncio.run(run()) == ["x", "a1", "b1", "c1", "a2", "b2", "a3"]


def test_whoever_holds_fewest_comes_first() -> None:
    async def run() -> list[str]:
        asking = Callers(fair_queue(3))
        for name in ("a1", "a2", "b1", "a3", "b2", "c1"):
            await asking.ask(name)
        await asking.release("a", "a")
        return asking.served

    assert asyncio.run(run()) == ["a1", "a2", "b1", "c1", "a3"]


def test_of_two_places_one_is_for_others() -> None:
    async def run() -> list[str]:
        asking = Callers(fair_queue(2))
        for name in ("a1", "a2", "b1"):
            await asking.ask(name)
        return asking.served

    assert asyncio.run(run()) == ["a1", "b1"]


def test_a_full_queue_rejects_the_last_request_of_the_busiest_caller() -> None:
    async def run() -> None:
        of = fair_queue(1, waiters=3)
        asking = Callers(of)
        await asking.ask("x")
        of_a = [await asking.ask(name) for name in ("a1", "a2", "a3")]
        of_b = [await asking.ask(name) for name in ("b1", "b2")]
        await settle()
        assert [task.done() for task in (*of_a, *of_b)] == [False, False, True, False, True]
        for task in (of_a[2], of_b[1]):
            assert isinstance(task.exception(), PoolBusy)
        await asking.release("x", "a", "b")
        assert asking.served == ["x", "a1", "b1", "a2"]

    asyncio.run(run())


def test_who_gave_up_takes_no_place() -> None:
    """Nor does one who is given a place at the very moment of giving up."""

    async def run() -> None:
        of = fair_queue(1)
        asking = Callers(of)
        await asking.ask("x")
        waiting = [await asking.ask(name) for name in ("a1", "b1", "c1")]
        waiting[0].cancel()
        of.release("x")  # before the task of a1 has run
        waiting[1].cancel()  # after it was given the place
        await settle()
        assert asking.served == ["x", "c1"]
        await asking.release("c")
        assert not of.is_exhausted

    asyncio.run(run())


def test_waiting_has_an_end_also_while_a_place_is_free_for_others() -> None:
    async def run() -> None:
        of = fair_queue(4, timeout_s=0.05)
        for _ in range(3):
            await of.acquire(time.monotonic() + SOON_S, "a")
        with pytest.raises(PoolBusy):
            await of.acquire(time.monotonic() + SOON_S, "a")
        await of.acquire(time.monotonic() + SOON_S, "b")
        of.release("a")
        await of.acquire(time.monotonic() + SOON_S, "a")
        assert of.is_exhausted

    asyncio.run(run())
