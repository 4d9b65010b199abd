"""Pages of users in their order, and what the users of a page did."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TooExpensive
from common.questions.users import Sort
from repo.columns.chunk import EVENT_ID, Chunk
from repo.columns.filter_evaluation import EventFields
from repo.engine.ordinals import Ordinals
from repo.engine.scan import MatchingEvents
from repo.engine.timeline import microseconds
from repo.queries import user_page
from repo.queries.user_page import Activity, ActivityCollector, SortCollector, select_page
from utils.time.zones import zone

NOON = datetime(2025, 3, 29, 12, tzinfo=UTC)


def events_of(*pairs: tuple[int, datetime]) -> MatchingEvents:
    """Events of users, given by their ordinals, at these times in order."""
    count = len(pairs)
    numbers = np.zeros(count, np.int64)
    chunk = Chunk(
        time=np.array([microseconds(time) for _, time in pairs], np.int64),
        user=np.array([ordinal for ordinal, _ in pairs], np.uint32),
        name=numbers.astype(np.int32),
        xid=numbers,
        event_id=np.zeros(count, EVENT_ID),
    )
    mask = np.ones(count, np.bool_)
    return MatchingEvents(chunk, 0, count, mask, [0], [0, count], EventFields())


@pytest.mark.parametrize(
    ("sort", "values"),
    [
        ("last_seen", {1: NOON + timedelta(hours=2), 4: NOON + timedelta(hours=1)}),
        ("first_seen", {1: NOON - timedelta(hours=1), 4: NOON + timedelta(hours=1)}),
        ("events", {1: 3, 4: 1}),
    ],
)
def test_the_values_by_which_users_are_sorted(sort: Sort, values: dict[int, Any]) -> None:
    collector = SortCollector(sort)
    hour = timedelta(hours=1)
    collector.add(events_of((1, NOON), (0, NOON), (1, NOON + 2 * hour)))
    collector.add(events_of((1, NOON - hour), (4, NOON + hour), (0, NOON + 9 * hour)))
    ordinals, numbers = collector.users()
    expected = [
        microseconds(value) if isinstance(value, datetime) else value for value in values.values()
    ]
    assert (ordinals.tolist(), numbers.tolist()) == (list(values), expected)


def test_the_memory_of_a_list_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_page, "MAX_BYTES", 80)
    collector = SortCollector("events")
    collector.add(events_of((9, NOON)))
    with pytest.raises(TooExpensive, match="88 bytes of users; the limit is 80"):
        collector.add(events_of((10, NOON)))


@given(
    values=st.lists(st.integers(-3, 3), max_size=12),
    names=st.permutations(range(12)),
    limit=st.integers(1, 5),
)
def test_pages_have_each_user_once_in_order(
    values: list[int], names: list[int], limit: int
) -> None:
    ids = {ordinal: f"u{names[ordinal - 1]:02}" for ordinal in range(1, len(values) + 1)}
    ordinals = np.array(list(ids), np.uint32)

    def in_order(some: Ordinals, after: str | None, count: int) -> list[tuple[str, int]]:
        listed = sorted((ids[ordinal], ordinal) for ordinal in some.tolist())
        return [user for user in listed if after is None or user[0] > after][:count]

    seen: list[tuple[int, str]] = []
    after: tuple[int, str] | None = None
    while True:
        numbers = np.array(values, np.int64)
        page = select_page(ordinals, numbers, after, limit, in_order)
        assert all(ids[user.ordinal] == user.user_id for user in page)
        seen += [(user.value, user.user_id) for user in page]
        if len(page) < limit:
            break
        after = seen[-1]
    expected = [(value, ids[position]) for position, value in enumerate(values, 1)]
    assert seen == sorted(expected, key=lambda user: (-user[0], user[1]))


def collected(
    tz: str, ordinals: Sequence[int], *parts: Sequence[tuple[int, datetime]]
) -> dict[int, Activity]:
    collector = ActivityCollector(ordinals, zone(tz))
    for part in parts:
        collector.add(events_of(*part))
    return dict(collector.activities())


def test_active_days_are_local_and_count_once() -> None:
    # Clocks change on 30 March 2025 in Berlin.
    hours = [0, 10, 11, 12, 33, 34, 48]
    times = [NOON + timedelta(hours=hour) for hour in hours]
    parts = [[(7, time) for time in times], [(7, times[0]), (3, times[1]), (5, times[2])]]
    first, last = microseconds(times[0]), microseconds(times[-1])
    activities = collected("Europe/Berlin", [7, 3], *parts)
    assert activities[7] == Activity(first, last, 8, 3)
    assert activities[3] == Activity(microseconds(times[1]), microseconds(times[1]), 1, 1)
    assert list(activities) == [3, 7]
    assert collected("UTC", [7], *parts)[7].active_days == 3
    assert collected("Asia/Tokyo", [7], parts[0][:2])[7].active_days == 2
    assert collected("Asia/Tokyo", [7], parts[0][:1])[7].active_days == 1


def test_the_day_before_a_skipped_day() -> None:
    before = datetime(2011, 12, 30, 9, 59, tzinfo=UTC)
    after = datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert collected("Pacific/Apia", [1], [(1, before), (1, after)])[1].active_days == 2
