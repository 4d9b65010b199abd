"""Evaluations run in order, on a few threads, until nobody needs them."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from itertools import count

import pytest

from common.questions.answer import Checkpoint
from config.database_errors import DeadlineExceeded, PoolBusy
from services.answering.evaluator import Evaluator

LONG_S = 20.0
NAME: ContextVar[str] = ContextVar("name")


@asynccontextmanager
async def opened(
    *, max_waiting: int = 10, threads: int = 1, max_bytes: int = 100
) -> AsyncIterator[Evaluator]:
    evaluator = Evaluator(max_waiting, threads, max_bytes)
    try:
        yield evaluator
    finally:
        evaluator.close()


async def evaluate(
    evaluator: Evaluator,
    work: Callable[[Checkpoint], int],
    timeout_s: float = LONG_S,
    size: int = 0,
    caller: str = "",
) -> int:
    deadline = time.monotonic() + timeout_s
    return await evaluator.run(work, "event_counts", deadline, size, caller)


class Endless:
    """Work that ends at a checkpoint alone."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.has_ended = threading.Event()

    def __call__(self, checkpoint: Checkpoint) -> int:
        self.has_begun.set()
        try:
            while True:
                checkpoint()
                time.sleep(0.001)
        finally:
            self.has_ended.set()

    async def begun(self) -> None:
        await asyncio.to_thread(self.has_begun.wait, LONG_S)


def test_a_result_and_an_error_reach_the_caller() -> None:
    async def run() -> list[int | BaseException]:
        async with opened() as evaluator:
            results = (evaluate(evaluator, work) for work in (lambda _: 7, lambda _: 1 // 0))
            return await asyncio.gather(*results, return_exceptions=True)

    number, error = asyncio.run(run())
    assert number == 7
    assert isinstance(error, ZeroDivisionError)


def test_evaluations_run_in_the_order_of_their_arrival() -> None:
    arrivals = count()

    async def run() -> list[int]:
        async with opened() as evaluator:
            return await asyncio.gather(
                *(evaluate(evaluator, lambda _: next(arrivals)) for _ in range(5))
            )

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]


def test_as_many_run_at_once_as_there_are_threads() -> None:
    both = threading.Barrier(2, timeout=LONG_S)

    async def run() -> list[int]:
        async with opened(threads=2) as evaluator:
            works = (evaluate(evaluator, lambda _: both.wait()) for _ in range(2))
            return await asyncio.gather(*works)

    assert sorted(asyncio.run(run())) == [0, 1]


def test_one_caller_does_not_hold_up_another() -> None:
    works = [Endless() for _ in range(3)]

    async def run() -> int:
        async with opened(threads=2) as evaluator:
            long = [asyncio.create_task(evaluate(evaluator, each, caller="a")) for each in works]
            await works[0].begun()
            number = await evaluate(evaluator, lambda _: 7, caller="b")
            for task in long:
                task.cancel()
            await asyncio.gather(*long, return_exceptions=True)
            return number

    assert asyncio.run(run()) == 7
    assert [each.has_begun.is_set() for each in works] == [True, False, False]


def test_callers_that_wait_take_turns() -> None:
    order: list[str] = []

    async def wait(evaluator: Evaluator, caller: str) -> None:
        def work(_: Checkpoint) -> int:
            order.append(caller)
            return 0

        await evaluate(evaluator, work, caller=caller)

    async def run() -> None:
        async with opened() as evaluator:
            first = Endless()
            running = asyncio.create_task(evaluate(evaluator, first, caller="c"))
            await first.begun()
            waiting = [asyncio.create_task(wait(evaluator, caller)) for caller in "aab"]
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(*waiting)

    asyncio.run(run())
    assert order == ["a", "b", "a"]


def test_an_evaluation_ends_at_its_deadline() -> None:
    work = Endless()

    async def run() -> None:
        async with opened() as evaluator:
            with pytest.raises(DeadlineExceeded):
                await evaluate(evaluator, work, timeout_s=1)
            assert await asyncio.to_thread(work.has_ended.wait, LONG_S)

    asyncio.run(run())


def test_an_evaluation_ends_when_its_caller_is_cancelled() -> None:
    work = Endless()

    async def run() -> None:
        async with opened() as evaluator:
            task = asyncio.create_task(evaluate(evaluator, work))
            await work.begun()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(work.has_ended.wait, LONG_S)

    asyncio.run(run())


def test_what_waits_for_a_thread_too_long_is_never_begun() -> None:
    first, second = Endless(), Endless()

    async def run() -> None:
        async with opened() as evaluator:
            task = asyncio.create_task(evaluate(evaluator, first))
            await first.begun()
            with pytest.raises(DeadlineExceeded):
                await evaluate(evaluator, second, timeout_s=0.05)
            task.cancel()
            assert await evaluate(evaluator, lambda _: 7) == 7

    asyncio.run(run())
    assert not second.has_begun.is_set()


def test_a_full_queue_takes_no_more() -> None:
    async def run() -> None:
        async with opened(max_waiting=1) as evaluator:
            tasks = [asyncio.create_task(evaluate(evaluator, Endless())) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(PoolBusy):
                await evaluate(evaluator, lambda _: 7)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await evaluate(evaluator, lambda _: 7) == 7

    asyncio.run(run())


def test_evaluations_hold_limited_bytes_together() -> None:
    async def run() -> None:
        async with opened(max_bytes=100) as evaluator:
            # One is always admitted.
            task = asyncio.create_task(evaluate(evaluator, Endless(), size=101))
            await asyncio.sleep(0)
            with pytest.raises(PoolBusy):
                await evaluate(evaluator, lambda _: 7, size=1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            numbers = await asyncio.gather(
                *(evaluate(evaluator, lambda _: 7, size=50) for _ in "ab")
            )
            assert numbers == [7, 7]

    asyncio.run(run())


def test_closing_ends_all_evaluations() -> None:
    work = Endless()

    async def run() -> None:
        async with opened() as evaluator:
            task = asyncio.create_task(evaluate(evaluator, work))
            await work.begun()
            evaluator.close()
            with pytest.raises(DeadlineExceeded):
                await task

    asyncio.run(run())


def test_an_evaluation_sees_the_context_of_its_request() -> None:
    async def run() -> None:
        async with opened() as evaluator:
            NAME.set("a request")
            assert await evaluate(evaluator, lambda _: len(NAME.get())) == len("a request")

    asyncio.run(run())
