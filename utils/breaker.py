"""A breaker: what just failed is not tried again by everybody at once."""

import random
import threading
import time
from collections.abc import Callable


class Breaker:
    """Lets all try until so many have failed in a row; then one each pause, whose luck decides.

    Pauses double from `first_s` to `longest_s`, less a random half, so that processes spread.
    """

    def __init__(
        self,
        *,
        failures: int,
        first_s: float,
        longest_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether to try; while the breaker is open, True to one caller for each pause."""
        if not self.is_open:
            return True
        with self._lock:
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._pause()
            return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self.is_open:
                self._next_try = self._clock() + self._pause()

    def _pause(self) -> float:
        doublings = min(max(self._failures - self._limit, 0), 30)
        whole = min(self._first_s * 2.0**doublings, self._longest_s)
        return whole * random.uniform(0.5, 1)
