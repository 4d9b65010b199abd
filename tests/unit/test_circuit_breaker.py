"""The breaker, on a clock of its own."""

import pytest

from utils.circuit_breaker import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(max_failures=3, first_pause_s=1, max_pause_s=8, clock=clock)


def test_it_allows_until_so_many_failed_in_a_row(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        breaker.record_failure()
    breaker.record_success()
    for _ in range(2):
        breaker.record_failure()
    assert breaker.allows()
    breaker.record_failure()
    assert breaker.is_open
    assert not breaker.allows()


def test_one_tries_after_the_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.record_failure()
    clock.now += 1
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_success_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.record_failure()
    clock.now += 1
    assert breaker.allows()
    breaker.record_success()
    assert not breaker.is_open
    assert all(breaker.allows() for _ in range(5))


def test_pauses_grow_up_to_the_longest(breaker: CircuitBreaker, clock: Clock) -> None:
    longest = {3: 1, 4: 2, 5: 4, 6: 8, 7: 8, 50: 8}
    for failures in range(1, 51):
        breaker.record_failure()
        if failures in longest:
            assert not breaker.allows()
            clock.now += longest[failures] / 2 - 0.001
            assert not breaker.allows()
            clock.now += longest[failures] / 2 + 0.001
            assert breaker.allows()
