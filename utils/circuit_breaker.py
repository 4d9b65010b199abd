"""A breaker: what just failed is not tried again by everybody at once."""

import random
import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Lets all try until so many have failed in a row; then one each pause, whose luck decides.

    Pauses double from `first_s` to `longest_s`, less a random half, so that processes spread.
    """

    def __init__(
        self,
        *,
        max_failures: int,
        first_pause_s: float,
        max_pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures = max_failures
        self._first_pause_s = first_pause_s
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_attempt_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._max_failures

    def allows(self) -> bool:
        """Whether to try; while the breaker is open, True to one caller for each pause."""
        if not self.is_open:
            return True
        with self._lock:
            if self._clock() < self._next_attempt_at:
                return False
            self._next_attempt_at = self._clock() + self._pause()
            return True

    def record_success(self) -> None:
        self._failures = 0

    def record_failure(self) -> None:
        with self._lock:
            self._failures += 1
            if self.is_open:
                self._next_attempt_at = self._clock() + self._pause()

    def _pause(self) -> float:
        doublings = min(max(self._failures - self._max_failures, 0), 30)
        full_pause_s = min(self._first_pause_s * 2.0**doublings, self._max_pause_s)
        return full_pause_s * random.uniform(0.5, 1)
