"""A circuit breaker: after failures, only one caller at a time tries the server again."""

import random
import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after `max_failures` in a row; while open, lets one caller try after each pause.

    A success closes the breaker. Pauses double from `first_pause_s` to `max_pause_s`.
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
        self.failures = 0
        """Failures in a row."""
        self._next_attempt_at = 0.0
        self.is_open = False

    def allows(self) -> bool:
        """Return whether the caller may try; while open, true for one caller after each pause."""
        if not self.is_open:
            return True
        with self._lock:
            if self._clock() < self._next_attempt_at:
                return False
            # Set before the attempt ends, so that other threads do not try meanwhile.
            self._next_attempt_at = self._clock() + self._pause()
            return True

    def record_success(self) -> None:
        if self.failures:
            with self._lock:
                self.failures, self.is_open = 0, False

    def record_failure(self) -> None:
        with self._lock:
            self.failures += 1
            self.is_open = self.failures >= self._max_failures
            if self.is_open:
                self._next_attempt_at = self._clock() + self._pause()

    def _pause(self) -> float:
        doublings = min(max(self.failures - self._max_failures, 0), 30)
        full_pause_s = min(self._first_pause_s * 2.0**doublings, self._max_pause_s)
        # Jitter, so that processes that saw the same failure do not try at the same moment.
        return full_pause_s * random.uniform(0.5, 1)
