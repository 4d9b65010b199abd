"""Time each query on each system, in alternating rounds, and compare their answers."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from bench.cases import QUESTIONS, Case
from bench.report import Row
from bench.systems import Answer, System

ROUNDS = 7
_TURN_MS = 100
_MAX_PER_TURN = 5
"""A fast query runs several times per round, up to _TURN_MS in all."""


def measure_case(systems: Sequence[System], case: Case, say: Callable[[str], None]) -> list[Row]:
    """Time all queries of a case, after checking that all systems return the same answers.

    Raises: AssertionError if two answers differ.
    """
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
    """The times of one round, in milliseconds."""
    call = system.prepare(question, case)
    durations = [timed(call)[0]]
    while len(durations) < _MAX_PER_TURN and sum(durations) < _TURN_MS:
        durations.append(timed(call)[0])
    return durations


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of a call in ms, and what it returns."""
    began = time.perf_counter()
    result = call()
    return (time.perf_counter() - began) * 1000, result


def _grouped(pairs: list[tuple[str, System]]) -> dict[str, list[System]]:
    systems_by_question: dict[str, list[System]] = defaultdict(list)
    for question, system in pairs:
        systems_by_question[question].append(system)
    return systems_by_question


def _compare(question: str, systems: list[System], case: Case) -> None:
    answers: dict[str, Answer] = {
        system.name: system.read(question, system.prepare(question, case)()) for system in systems
    }
    if case.arriving:  # events arrive between the systems, so their answers differ
        return
    first, *others = answers
    for other in others:
        assert answers[other] == answers[first], (
            f"{question} of {case.name}: {other} says {answers[other]}, {first} {answers[first]}"
        )
