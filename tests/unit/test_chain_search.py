"""Chains of funnels, as literal examples and compared with all chains that plain Python tries."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TooExpensive
from repo.sequences import progress as progress_module
from repo.sequences.chain_search import ChainRules, Order, find_chains
from repo.sequences.ordered_events import OrderedEvents, by_session, in_order
from repo.sequences.progress import Progress, progress_of, united
from repo.sequences.step_labels import LabelBits
from tests.example_counts import examples
from tests.funnel_oracle import Funnel, Outcome, StepEvent, outcomes

VALUES = ["x", "y"]


def label(event: StepEvent, bits: LabelBits) -> int:
    if event.is_ignored:
        return bits.ignored
    if event.is_excluded:
        return bits.excluded
    return sum(1 << step for step in event.steps)


def arrays(events: Sequence[StepEvent], funnel: Funnel) -> OrderedEvents:
    """Events in the order of their ids, as chunks have those of a user at one instant."""
    bits = LabelBits(funnel.steps)
    by_id = sorted(events, key=lambda event: event.event_id)
    same = [VALUES.index(event.same) if event.same else -1 for event in by_id]
    ordered, _ = in_order(
        OrderedEvents(
            owner=np.array([event.user for event in by_id], np.uint32),
            time=np.array([event.time for event in by_id], np.int64),
            labels=np.array([label(event, bits) for event in by_id], bits.dtype),
            same=np.array(same, np.int32) if funnel.has_same else None,
        ),
        bits,
    )
    if funnel.gap is not None:
        ordered = by_session(ordered, funnel.gap, funnel.now)
    considered = bits.considered(ordered.labels, with_others=funnel.order == "strict")
    return ordered.select(np.flatnonzero(considered))


def rules_of(funnel: Funnel) -> ChainRules:
    return ChainRules(
        bits=LabelBits(funnel.steps),
        order=funnel.order,
        within=funnel.within,
        entry_end=funnel.entry_end,
        complete_until=funnel.now,
    )


def progress(events: Sequence[StepEvent], funnel: Funnel) -> Progress:
    ordered = arrays(events, funnel)
    return progress_of(ordered, find_chains(ordered, rules_of(funnel)))


def found(events: Sequence[StepEvent], funnel: Funnel) -> list[Outcome]:
    result = progress(events, funnel)
    times = result.times.T.tolist()
    return [
        Outcome(furthest, tuple(times[place][:furthest]), is_open, first_entry, user)
        for place, (furthest, is_open, first_entry, user) in enumerate(
            zip(
                result.furthest.tolist(),
                result.is_open.tolist(),
                result.first_entry.tolist(),
                result.users.tolist(),
                strict=True,
            )
        )
    ]


@st.composite
def funnels(draw: st.DrawFn) -> Funnel:
    end = draw(st.integers(0, 8))
    return Funnel(
        steps=draw(st.integers(2, 4)),
        within=draw(st.integers(0, 6)),
        entry_end=end,
        now=draw(st.integers(end, 9)),
        order=draw(st.sampled_from(get_args(Order))),
        has_same=draw(st.booleans()),
        gap=draw(st.none() | st.integers(0, 3)),
    )


@st.composite
def events_of(draw: st.DrawFn, funnel: Funnel) -> list[StepEvent]:
    events = st.builds(
        StepEvent,
        event_id=st.just(0),
        user=st.integers(1, 2),
        time=st.integers(0, max(funnel.now - 1, 0)),
        steps=st.frozensets(st.integers(0, funnel.steps - 1), max_size=2),
        is_excluded=st.sampled_from([False] * 7 + [True]),
        is_ignored=st.sampled_from([False] * 7 + [True]),
        same=st.sampled_from(["x", "x", "x", "y", None]),
    )
    stored = draw(st.lists(events, max_size=9 if funnel.now else 0))
    return [replace(event, event_id=number) for number, event in enumerate(stored)]


@settings(max_examples=examples(3000), deadline=None)
@given(st.data())
def test_users_come_as_far_as_any_chain_goes(data: st.DataObject) -> None:
    funnel = data.draw(funnels())
    events = data.draw(events_of(funnel))
    assert found(events, funnel) == outcomes(events, funnel)


def made(*events: tuple[str, int]) -> list[StepEvent]:
    """Events of one user: the letters of their steps, `-` for none, `!` for excluded; times."""
    return [
        StepEvent(
            number,
            1,
            time,
            frozenset("ABCD".index(letter) for letter in letters if letter in "ABCD"),
            is_excluded="!" in letters,
        )
        for number, (letters, time) in enumerate(events)
    ]


def reached(letters: str, times: Sequence[int], **options: object) -> tuple[int, ...]:
    """The times of the reported chain over events that each match one step."""
    funnel = replace(Funnel(steps=4, within=10, entry_end=100, now=1000), **options)  # type: ignore[arg-type]
    (result,) = found(made(*zip(letters, times, strict=True)), funnel)
    return result.times


def test_an_event_may_serve_different_steps_of_different_chains() -> None:
    events = made(("A", 0), ("B", 1), ("AC", 9), ("B", 11), ("A", 12), ("C", 15))
    # The order of steps A, B, A, C as bits: A is the first and the third.
    as_steps = {"A": {0, 2}, "B": {1}, "AC": {0, 2}, "C": {3}}
    letters = ["A", "B", "A", "B", "A", "C"]
    events = [
        replace(event, steps=frozenset(as_steps[letter]))
        for event, letter in zip(events, letters, strict=True)
    ]
    funnel = Funnel(steps=4, within=10, entry_end=100, now=1000)
    assert found(events, funnel) == [Outcome(4, (9, 11, 12, 15), False, 0)]


def test_a_window_includes_its_last_microsecond() -> None:
    assert reached("AB", [0, 10]) == (0, 10)
    assert reached("AB", [0, 11]) == (0,)


def test_the_reported_chain_begins_first_and_takes_the_earliest_events() -> None:
    assert reached("AABBC", [0, 1, 2, 3, 4]) == (0, 2, 4)


def test_the_last_window_may_reach_further() -> None:
    assert reached("ABAC", [0, 1, 8, 18]) == (0, 1)
    assert reached("ABABC", [0, 1, 8, 9, 18]) == (8, 9, 18)


def test_a_repeated_step_needs_two_events() -> None:
    twice = frozenset({0, 1})
    one = [StepEvent(0, 1, 5, twice)]
    funnel = Funnel(steps=2, within=10, entry_end=100, now=1000)
    assert [each.furthest for each in found(one, funnel)] == [1]
    assert [each.furthest for each in found([*one, StepEvent(1, 1, 5, twice)], funnel)] == [2]


def test_events_at_one_instant_are_in_the_order_of_steps() -> None:
    assert reached("CBA", [5, 5, 5]) == (5, 5, 5)


def test_an_excluded_event_ends_a_chain() -> None:
    assert reached("AB!C", [0, 1, 2, 3]) == (0, 1)
    assert reached("AB!ABC", [0, 1, 2, 3, 4, 5]) == (3, 4, 5)
    assert reached("AB!C", [0, 1, 3, 3]) == (0, 1, 3)


def test_strict_steps_follow_each_other_directly() -> None:
    assert reached("A-B", [0, 1, 2], order="strict") == (0,)
    assert reached("A-ABC", [0, 1, 2, 3, 4], order="strict") == (2, 3, 4)


@pytest.mark.parametrize(
    ("steps", "furthest"),
    [
        ([{0, 1}, {0}], 2),  # A with plan:pro, then A, for the steps A and A with plan:pro
        ([{1}, {0}], 2),
        ([{0}, {0}], 1),
    ],
)
def test_in_any_order_as_many_steps_as_possible_are_matched(
    steps: list[set[int]], furthest: int
) -> None:
    events = [StepEvent(n, 1, n, frozenset(each)) for n, each in enumerate(steps)]
    funnel = Funnel(steps=2, within=10, entry_end=100, now=1000, order="any")
    assert [each.furthest for each in found(events, funnel)] == [furthest]


@pytest.mark.parametrize("order", get_args(Order))
def test_a_missing_value_equals_nothing(order: Order) -> None:
    funnel = Funnel(steps=2, within=10, entry_end=100, now=1000, order=order, has_same=True)
    for same, furthest in (("x", 2), (None, 1)):
        events = [StepEvent(n, 1, n, frozenset({n}), same=same) for n in range(2)]
        assert [each.furthest for each in found(events, funnel)] == [furthest]


def test_there_may_be_no_events_and_no_entries() -> None:
    funnel = Funnel(steps=2, within=10, entry_end=100, now=1000)
    for order in get_args(Order):
        assert found([], replace(funnel, order=order)) == []
    assert found([StepEvent(0, 1, 5, frozenset({1}))], funnel) == []


def test_ordinals_above_31_bits_are_users_like_others() -> None:
    users = [2**32 - 1, 2**31, 3]
    events = [StepEvent(n, user, n, frozenset({n // 3})) for n, user in enumerate([*users, *users])]
    funnel = Funnel(steps=2, within=3, entry_end=100, now=1000)
    assert found(events, funnel) == outcomes(events, funnel)
    assert len(found(events, funnel)) == 3


def test_owners_of_parts_are_united_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    funnel = Funnel(steps=2, within=9, entry_end=9, now=9)
    part = progress([StepEvent(n, 1, n + 1, frozenset({n})) for n in range(2)], funnel)
    assert part.nbytes == 4 + 1 + 2 * 8 + 8 + 1
    assert united(iter([part])) is part
    assert united([part, part]).times.tolist() == [[1, 1], [2, 2]]
    monkeypatch.setattr(progress_module, "MAX_BYTES", 2 * part.nbytes)
    assert len(united([part, part])) == 2
    with pytest.raises(TooExpensive, match="would read 90 bytes of users who entered"):
        united([part] * 3)


@pytest.mark.parametrize("order", get_args(Order))
def test_a_search_ends_at_its_next_checkpoint(order: Order) -> None:
    funnel = Funnel(steps=2, within=9, entry_end=9, now=9, order=order)

    def end() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        find_chains(arrays([StepEvent(1, 1, 1, frozenset({0}))], funnel), rules_of(funnel), end)
