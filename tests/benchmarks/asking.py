"""Everybody is asked everything, in turns, and medians are taken."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tests.benchmarks.cases import QUESTIONS, Case
from tests.benchmarks.systems import Answer, System

ROUNDS = 7
_TURN_MS = 100
_MOST_A_TURN = 5
"""What is fast is asked a few times in its turn."""


class Row(msgspec.Struct, frozen=True):
    """What one system takes for one question in one case."""

    question: str
    system: str
    zone: str
    ms: float
    sql: str


def asked(systems: Sequence[System], case: Case, say: Callable[[str], None]) -> list[Row]:
    """Before the clock runs each one is asked once, and all must say the same."""
    asking = [
        (question, system)
        for question in QUESTIONS
        for system in systems
        if system.spelled(question, case)
    ]
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for question, group in _grouped(asking).items():
        _compare(question, group, case)
    for turn in range(ROUNDS):
        for question, system in asking:
            taken[question, system.name] += _turn(question, system, case)
        say(f"{case.name}: round {turn + 1} of {ROUNDS}")
    return [
        Row(
            question,
            system.name,
            case.name,
            round(statistics.median(taken[question, system.name]), 3),
            system.spelled(question, case) or "",
        )
        for question, system in asking
    ]


def _turn(question: str, system: System, case: Case) -> list[float]:
    """In milliseconds."""
    ask = system.ready(question, case)
    taken = [_timed(ask)]
    while len(taken) < _MOST_A_TURN and sum(taken) < _TURN_MS:
        taken.append(_timed(ask))
    return taken


def _timed(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def _grouped(asking: list[tuple[str, System]]) -> dict[str, list[System]]:
    grouped: dict[str, list[System]] = defaultdict(list)
    for question, system in asking:
        grouped[question].append(system)
    return grouped


def _compare(question: str, systems: list[System], case: Case) -> None:
    answers: dict[str, Answer] = {
        system.name: system.read(question, system.ready(question, case)()) for system in systems
    }
    if case.arriving:  # they are asked one after the other, and there are more events each time
        return
    first, *others = answers
    for other in others:
        assert answers[other] == answers[first], (
            f"{question} of {case.name}: {other} says {answers[other]}, {first} {answers[first]}"
        )
