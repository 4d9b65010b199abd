"""Work beside other work that is seldom needed: most of the time it is over before it begins."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def run_after_delay(
    delay_s: float, work: Callable[[], Coroutine[Any, Any, None]]
) -> Iterator[None]:
    """Begin the work when the block has taken so long, and end it with the block.

    A task costs as much as a tenth of a short answer; a timer that is cancelled next to nothing.
    """
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    timer = loop.call_later(delay_s, lambda: tasks.append(loop.create_task(work())))
    try:
        yield
    finally:
        timer.cancel()
        for task in tasks:
            task.cancel()
