"""Time the cases of the part `wide` on all systems, and compare each of their answers."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from bench.figures import Figures
from bench.report import Row
from bench.rounds import timed
from bench.stored_set import Stores
from bench.wide.answers import Answer
from bench.wide.cases import WideCase, wide_cases
from bench.wide.first_query import first_queries
from bench.wide.questions import LABELS, QUESTIONS
from bench.wide.random_filters import check_random_filters
from bench.wide.systems import WideSystem, warm_systems

ROUNDS = 7
_CASES_PER_ROUND = 3
"""Cases of a round. PostgreSQL, which takes seconds, is asked the first of them."""
_SLOW = ("postgresql tuned",)
_WARM_CASES = 1 + ROUNDS * _CASES_PER_ROUND  # the first is not timed
COLD_ROUNDS = 7
STATES = ("warm", "cold")

Say = Callable[[str], None]


class Timing(NamedTuple):
    """A query of a system, with its time in ms and its answer."""

    system: str
    case: str
    query_text: str
    ms: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class WideSelection:
    """The questions, states and systems of the part `wide` to measure."""

    questions: tuple[str, ...] = tuple(QUESTIONS)
    states: tuple[str, ...] = STATES
    without: tuple[str, ...] = ()
    """The systems to leave out."""


def measure_wide(
    stores: Stores, url: str, port: int, selection: WideSelection, figures: Figures, say: Say
) -> None:
    """Time the questions with warm and with empty caches, and add a row for each system.

    The states are the zones of the rows. A question that systems answer differently fails alone.
    """
    if "warm" in selection.states:
        with warm_systems(stores, url, port, selection.questions) as systems:
            asked = [system for system in systems if system.name not in selection.without]
            with figures.part("random filters"):
                check_random_filters([each for each in asked if each.name not in _SLOW], say)
            for question in selection.questions:
                with figures.part(f"{question}, warm"):
                    figures.wide += _warm(asked, question, figures, say)
    if "cold" in selection.states:
        for question in selection.questions:
            with figures.part(f"{question}, nothing cached"):
                figures.wide += _cold(stores, url, question, say)


def _warm(
    systems: Sequence[WideSystem], question: str, figures: Figures, say: Say
) -> Iterator[Row]:
    cases = wide_cases(question)
    able = _able(systems, next(cases), figures)
    timings = []
    for turn in range(ROUNDS):
        for number, case in enumerate(islice(cases, _CASES_PER_ROUND)):
            first = (turn + number) % len(able)
            rotated = [*able[first:], *able[:first]]
            asked = [system for system in rotated if number == 0 or system.name not in _SLOW]
            timings += _compare(_timings(asked, case))
    say(f"warm: {LABELS[question]}")
    return _rows(timings, question, "warm")


def _able(systems: Sequence[WideSystem], case: WideCase, figures: Figures) -> list[WideSystem]:
    """The systems that answer a case: one may have too little memory for it.

    Raises: AssertionError if two of them answer differently.
    """
    able: list[WideSystem] = []
    timings: list[Timing] = []
    for system in systems:
        with figures.part(f"{case.question}, {system.name}"):
            timings.append(_timing(system, case))
            able.append(system)
    _compare(timings)
    return able


def _cold(stores: Stores, url: str, question: str, say: Say) -> Iterator[Row]:
    timings = []
    for number in range(_WARM_CASES, _WARM_CASES + COLD_ROUNDS):
        firsts = first_queries(stores, url, question, number)
        timings += _compare(
            [Timing(each.system, f"case {number}", "", each.ms, each.answer) for each in firsts]
        )
    say(f"cold: {LABELS[question]}")
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
