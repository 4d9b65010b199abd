"""Waits for conditions, with timeouts that grow with the load of the machine."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def load_factor() -> float:
    """The factor for timeouts on this machine: 1 while it has a core for each running process."""
    with suppress(OSError):
        minute, _, _, running, *_ = Path("/proc/loadavg").read_text().replace("/", " ").split()
        return _factor_of(max(float(minute), float(running)))
    return _factor_of(os.getloadavg()[0])


def _factor_of(load: float) -> float:
    return max(1.0, 2 * load / (os.cpu_count() or 1) - 1)


def adjusted_for_load(seconds: float) -> float:
    """A limit in seconds for an idle machine, extended by the current load."""
    return seconds * load_factor()


def wait_until(has_happened: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait for a condition; the timeout grows with the load. Raises: AssertionError."""
    began, longest = time.monotonic(), 1.0
    while not has_happened():
        longest = max(longest, load_factor())
        allowed_s = timeout_s * longest
        assert time.monotonic() - began < allowed_s, f"it did not happen within {allowed_s:.1f} s"
        time.sleep(0.01)
