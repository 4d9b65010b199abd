"""Users are chosen by the number of their events, by ordinal."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TooExpensive
from common.selections import parse_user_conditions
from common.user_criteria import UserCriterion
from repo.columns.chunk import EVENT_ID, Chunk
from repo.columns.filter_evaluation import EventFields
from repo.engine.scan import MatchingEvents
from repo.engine.user_choice import UserChoice, UserCounter
from utils.time.calendar import Range

RANGE = Range(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC))


def criterion(times: str, *, negated: bool = False) -> UserCriterion:
    (condition,) = parse_user_conditions([f"* @times:{times}"])
    return UserCriterion("not_did" if negated else "did", condition, RANGE)


def events_of(ordinals: Sequence[int]) -> MatchingEvents:
    count = len(ordinals)
    numbers = np.zeros(count, np.int64)
    chunk = Chunk(
        time=numbers,
        user=np.array(ordinals, np.uint32),
        name=numbers.astype(np.int32),
        xid=numbers,
        event_id=np.zeros(count, EVENT_ID),
    )
    mask = np.ones(count, np.bool_)
    return MatchingEvents(chunk, 0, count, mask, [0], [0, count], EventFields())


def chosen(criteria: Sequence[UserCriterion], *parts: Sequence[Sequence[int]]) -> list[int]:
    """Those of the users 0 to 9 who are chosen, by the users of the events of each criterion."""
    choice = UserChoice(criteria)
    for counter, part in zip(choice.counters, parts, strict=True):
        for ordinals in part:
            counter.add(events_of(ordinals))
    return np.flatnonzero(choice.contains(np.arange(10, dtype=np.uint32))).tolist()


@pytest.mark.parametrize(
    ("times", "users"),
    [
        ("1..", [1, 2, 7]),
        ("2..", [2, 7]),
        ("1", [1]),
        ("2..3", [2]),
        ("..2", [1, 2, 3, 4, 5, 6, 8, 9]),
        ("0", [3, 4, 5, 6, 8, 9]),
        ("0..", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("5..", []),
    ],
)
def test_users_are_chosen_by_the_number_of_events(times: str, users: list[int]) -> None:
    counts = [[1, 2, 0, 7, 7], [], [7, 2, 7, 0]]
    assert chosen([criterion(times)], counts) == users
    others = [user for user in range(1, 10) if user not in users]
    assert chosen([criterion(times, negated=True)], counts) == others


def test_all_criteria_must_hold() -> None:
    criteria = [criterion("1.."), criterion("..1"), criterion("1..", negated=True)]
    assert chosen(criteria, [[1, 2, 3, 9]], [[2, 2, 3]], [[1, 8]]) == [3, 9]
    assert chosen([criterion("..2")], []) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert chosen([criterion("1..")], []) == []


@given(
    parts=st.lists(st.lists(st.integers(0, 9), max_size=20), max_size=4),
    low=st.integers(0, 4),
    extra=st.none() | st.integers(0, 3),
    negated=st.booleans(),
)
def test_the_choice_agrees_with_counting(
    parts: list[list[int]], low: int, extra: int | None, negated: bool
) -> None:
    high = 99 if extra is None else low + extra
    times = f"{low}.." if extra is None else f"{low}..{high}"
    ordinals = [ordinal for part in parts for ordinal in part]
    holds = [low <= ordinals.count(user) <= high for user in range(10)]
    expected = [user for user in range(1, 10) if holds[user] is not negated]
    assert chosen([criterion(times, negated=negated)], parts) == expected


def test_the_memory_of_counts_is_limited() -> None:
    counter = UserCounter(criterion("1.."), max_bytes=400)
    counter.add(events_of([99]))
    with pytest.raises(TooExpensive, match=r"404 bytes .* the limit is 400\. Cheaper: fewer `did`"):
        counter.add(events_of([100]))
