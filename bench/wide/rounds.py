"""Time the cases of the part `wide` on all systems, and compare each of their answers."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from bench.report import Row
from bench.rounds import timed
from bench.stored_set import Stores
from bench.wide.cases import QUESTIONS, WideCase, wide_cases
from bench.wide.first_query import first_queries
from bench.wide.random_filters import check_random_filters
from bench.wide.systems import Answer, WideSystem, warm_systems

ROUNDS = 7
_CASES_PER_ROUND = 3
"""Cases of a round. PostgreSQL, which takes seconds, is asked the first of them."""
_SLOW = ("postgresql tuned",)
_UNTIMED = 1
_WARM_CASES = _UNTIMED + ROUNDS * _CASES_PER_ROUND
COLD_ROUNDS = 7

Say = Callable[[str], None]


class Timing(NamedTuple):
    """A query of a system, with its time in ms and its answer."""

    system: str
    case: str
    query_text: str
    ms: float
    answer: Answer


def measure_wide(stores: Stores, url: str, port: int, say: Say) -> list[Row]:
    """Time all questions with warm and with empty caches; the states are the zones of the rows.

    Raises: AssertionError if two systems answer a case differently.
    """
    with warm_systems(stores, url, port) as systems:
        check_random_filters([each for each in systems if each.name not in _SLOW], say)
        rows = [row for question in QUESTIONS for row in _warm(systems, question, say)]
    return rows + [row for question in QUESTIONS for row in _cold(stores, url, question, say)]


def _warm(systems: Sequence[WideSystem], question: str, say: Say) -> Iterator[Row]:
    cases = wide_cases(question)
    for case in islice(cases, _UNTIMED):
        _compare(_timings(systems, case))
    timings = []
    for turn in range(ROUNDS):
        for number, case in enumerate(islice(cases, _CASES_PER_ROUND)):
            first = (turn + number) % len(systems)
            rotated = [*systems[first:], *systems[:first]]
            asked = [system for system in rotated if number == 0 or system.name not in _SLOW]
            timings += _compare(_timings(asked, case))
    say(f"warm: {QUESTIONS[question]}")
    return _rows(timings, question, "warm")


def _cold(stores: Stores, url: str, question: str, say: Say) -> Iterator[Row]:
    timings = []
    for number in range(_WARM_CASES, _WARM_CASES + COLD_ROUNDS):
        firsts = first_queries(stores, url, question, number)
        timings += _compare(
            [Timing(each.system, f"case {number}", "", each.ms, each.answer) for each in firsts]
        )
    say(f"cold: {QUESTIONS[question]}")
    return _rows(timings, question, "cold")


def _timings(systems: Sequence[WideSystem], case: WideCase) -> list[Timing]:
    return [_timing(system, case) for system in systems]


def _timing(system: WideSystem, case: WideCase) -> Timing:
    ms, result = timed(system.prepare(case))
    return Timing(system.name, str(case), system.query_text(case), ms, system.read(case, result))


def _compare(timings: list[Timing]) -> list[Timing]:
    first, *others = timings
    for other in others:
        assert other.answer == first.answer, (
            f"{first.case}: {other.system} says {other.answer}, {first.system} {first.answer}"
        )
    return timings


def _rows(timings: list[Timing], question: str, state: str) -> Iterator[Row]:
    """The median of each system, with the query of its last case."""
    by_system: dict[str, list[Timing]] = defaultdict(list)
    for timing in timings:
        by_system[timing.system].append(timing)
    for system, of_system in by_system.items():
        ms = round(statistics.median(timing.ms for timing in of_system), 3)
        yield Row(question, system, state, ms, of_system[-1].query_text)
