"""Runs background tasks by a clock of the test."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from services.background import repeat


class Stopped(BaseException):
    """Ends a task that would be repeated forever."""


def pauses(
    monkeypatch: pytest.MonkeyPatch,
    repeat_task: Callable[[str], object],
    url: str,
    runs: int,
    clock: Iterator[float],
) -> list[float]:
    """Return the pauses in seconds before and after each of the first runs of a task.

    `clock` has the times at which a run begins and ends, and those that the task reads.
    """
    intervals: list[float] = []

    def sleep(seconds: float) -> None:
        intervals.append(seconds)
        if len(intervals) == 2 * runs:
            raise Stopped

    time = SimpleNamespace(sleep=sleep, monotonic=lambda: next(clock))
    monkeypatch.setattr(repeat, "time", time)
    with pytest.raises(Stopped):
        repeat_task(url)
    return intervals
