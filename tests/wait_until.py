"""Waiting for what happens soon, on machines that have other work as well."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def load_factor() -> float:
    """How many times as long things may take as on a machine at rest: 1 while there are no more
    processes that want to run than processors."""
    with suppress(OSError):
        minute, _, _, running, *_ = Path("/proc/loadavg").read_text().replace("/", " ").split()
        return _factor_of(max(float(minute), float(running)))
    return _factor_of(os.getloadavg()[0])


def _factor_of(load: float) -> float:
    return max(1.0, 2 * load / (os.cpu_count() or 1) - 1)


def adjusted_for_load(seconds: float) -> float:
    """The seconds that something may have taken which takes no more than these on a machine at
    rest: a bound that is tight there and that a busy one keeps."""
    return seconds * load_factor()


def wait_until(has_happened: Callable[[], bool], *, timeout_s: float) -> None:
    """Fails when it does not happen in time; on a busy machine there is more of it."""
    began, longest = time.monotonic(), 1.0
    while not has_happened():
        longest = max(longest, load_factor())
        allowed_s = timeout_s * longest
        assert time.monotonic() - began < allowed_s, f"it did not happen within {allowed_s:.1f} s"
        time.sleep(0.01)
