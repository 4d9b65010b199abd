"""Waiting for what happens soon."""

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], bool], *, within_s: float) -> None:
    """Fails when it does not happen in time."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen within {within_s} s"
        time.sleep(0.01)
