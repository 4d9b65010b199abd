"""Everybody is asked everything, in turns, and medians are taken."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bench.cases import QUESTIONS, Case
from bench.systems import Answer, System

ROUNDS = 7
_TURN_MS = 100
_MAX_PER_TURN = 5
"""What is fast is asked a few times in its turn."""


class Row(msgspec.Struct, frozen=True):
    """What one system takes for one question in one case."""

    question: str
    system: str
    zone: str
    ms: float
    sql: str


def measure_case(systems: Sequence[System], case: Case, say: Callable[[str], None]) -> list[Row]:
    """Before the clock runs each one is asked once, and all must say the same."""
    pairs = [
        (question, system)
        for question in QUESTIONS
        for system in systems
        if system.query_text(question, case)
    ]
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for question, group in _grouped(pairs).items():
        _compare(question, group, case)
    for turn in range(ROUNDS):
        for question, system in pairs:
            durations[question, system.name] += _turn(question, system, case)
        say(f"{case.name}: round {turn + 1} of {ROUNDS}")
    return [
        Row(
            question,
            system.name,
            case.name,
            round(statistics.median(durations[question, system.name]), 3),
            system.query_text(question, case) or "",
        )
        for question, system in pairs
    ]


def _turn(question: str, system: System, case: Case) -> list[float]:
    """In milliseconds."""
    call = system.prepare(question, case)
    durations = [_timed(call)]
    while len(durations) < _MAX_PER_TURN and sum(durations) < _TURN_MS:
        durations.append(_timed(call))
    return durations


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _grouped(pairs: list[tuple[str, System]]) -> dict[str, list[System]]:
    systems_by_question: dict[str, list[System]] = defaultdict(list)
    for question, system in pairs:
        systems_by_question[question].append(system)
    return systems_by_question


def _compare(question: str, systems: list[System], case: Case) -> None:
    answers: dict[str, Answer] = {
        system.name: system.read(question, system.prepare(question, case)()) for system in systems
    }
    if case.arriving:  # they are asked one after the other, and there are more events each time
        return
    first, *others = answers
    for other in others:
        assert answers[other] == answers[first], (
            f"{question} of {case.name}: {other} says {answers[other]}, {first} {answers[first]}"
        )
