"""Counts of properties agree with plain Python, in chunks of any size and users in parts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.catalogue.name_counter import NameCounter
from repo.catalogue.property_counter import PropertyCounter, ValueUserCounter
from repo.catalogue.statistics import ValueCount, decode_values, encode_values, text_of
from repo.catalogue.user_pairs import UserPairs
from repo.columns.chunk import Chunk
from repo.engine.scan import Collector, Scan, Scanner
from repo.engine.timeline import Timeline
from tests import catalogue_oracle
from tests.chunks import event_fields, parsed
from tests.example_counts import examples
from tests.unit.test_grouping import ALWAYS, NAMES, PATHS, chunks_of
from tests.unit.test_timeline import ranges
from tests.where_oracle import Event, load
from tests.where_strategies import cases

START = datetime(2000, 1, 1, tzinfo=UTC)


def scan(chunks: Sequence[Chunk], collector: Collector, first: int, end: int) -> None:
    """Collect the events of a range, by their positions."""
    filter_ = parsed(ALWAYS)
    scan_ = Scan(question="properties", ranges=ranges(first, end), where=filter_)
    scanner = Scanner(scan_, collector, event_fields(filter_), None, None)
    timeline = Timeline(scan_.ranges)
    for chunk in chunks:
        scanner.add_parts(chunk, timeline.slices(int(chunk.time[0]), int(chunk.time[-1])))


@given(
    case=cases(),
    path=st.sampled_from(PATHS),
    size=st.integers(1, 7) | st.just(1_000),
    first=st.integers(0, 3),
    parts=st.integers(1, 4),
    prefix=st.sampled_from(["", "", "a", "5", "-", "t"]),
)
@settings(max_examples=examples(200))
def test_counts_agree(
    case: Any, path: tuple[str, ...], size: int, first: int, parts: int, prefix: str
) -> None:
    events, chunks = list(case.events), chunks_of(case.events, size)
    end = max(len(events), first + 1)
    occurred = [(START + timedelta(microseconds=at), each) for at, each in enumerate(events)]
    members = occurred[first:]
    pairs = UserPairs(2**20)
    counter = PropertyCounter(path, pairs, prefix=prefix)
    scan(chunks, counter, first, end)
    expected = catalogue_oracle.properties(members).get(path)
    assert counter.events == (expected.events if expected else 0)
    if expected is None:
        return
    users = dict[int, int]()
    for part in range(parts):
        of_part = UserPairs(2**20, part, parts)
        scan(chunks, ValueUserCounter(path, dict(counter.values), of_part), first, end)
        for number, count in of_part.counts().items():
            users[number] = users.get(number, 0) + count
    assert users == pairs.counts()
    statistics = counter.statistics(users)
    micros = [(each - START) // timedelta.resolution for each in expected[2:4]]
    assert (statistics.events, statistics.users) == expected[:2]
    assert [statistics.first, statistics.last] == micros
    assert statistics.types == expected.types
    values = [
        each
        for each in catalogue_oracle.values(members, path)
        if text_of(each.value).startswith(prefix)
    ]
    assert statistics.distinct == len(values)
    assert [(*each, each.kind) for each in statistics.values or ()] == [
        (each.value, each.events, each.users, each.type) for each in values
    ]


def events_of(*properties: str) -> list[Event]:
    return [Event("u1" if n % 2 else None, "view", load(each)) for n, each in enumerate(properties)]


def test_too_many_values_are_not_counted() -> None:
    chunks = chunks_of(events_of('{"a": [1, 2]}', '{"a": 3}', '{"a": "x"}'), 1)
    counter = PropertyCounter(("a",), UserPairs(9), max_distinct=2)
    scan(chunks, counter, 0, 3)
    statistics = counter.statistics({})
    assert (counter.has_too_many, statistics.distinct, statistics.values) == (True, None, None)
    assert (statistics.events, statistics.types) == (3, {"number": 2, "text": 1})


def test_the_most_frequent_values_are_returned() -> None:
    chunks = chunks_of(events_of('{"a": 1}', '{"a": "x"}', '{"a": 2}', '{"a": "x"}'), 2)
    counter = PropertyCounter(("a",), UserPairs(9), max_values=2)
    scan(chunks, counter, 0, 4)
    statistics = counter.statistics({0: 5})
    assert statistics.distinct == 3
    assert statistics.values == [ValueCount("x", 2, 0), ValueCount(Decimal(1), 1, 5)]


def test_pairs_are_bounded() -> None:
    pairs = UserPairs(4)
    ones = np.ones(3, np.int64)
    for _ in range(3):
        pairs.add(ones, np.array([1, 2, 0], np.uint32))
    assert (pairs.is_complete, pairs.counts()) == (True, {1: 2})
    pairs = UserPairs(4)
    for users in ([4, 5, 6, 7], [0, 3, 4, 4], [8, 9, 8, 9]):
        pairs.add(np.arange(-1, 3), np.array(users, np.uint32))
    # Of 5, 6, 7, 3, 4, 4, 9, 8, 9 these are the multiples of 4.
    assert (pairs.parts, pairs.counts()) == (4, {1: 2, 2: 1})


def test_names_have_their_times() -> None:
    events = [Event(user, name, {}) for user, name in (("u1", "buy"), (None, "view"))] * 2
    pairs = UserPairs(9)
    counter = NameCounter(pairs)
    scan(chunks_of(events, 3), counter, 0, 4)
    assert counter.rows(pairs.counts(), NAMES) == [("buy", 2, 1, 0, 2), ("view", 2, 0, 1, 3)]


def test_stored_values_come_back() -> None:
    values = [
        ValueCount("ü\u2028", 3, 2),
        ValueCount(Decimal("-1.5"), 2, 1),
        ValueCount(True, 1, 0),
        ValueCount(False, 1, 0),
        ValueCount("", 1, 1),
    ]
    assert decode_values(encode_values(values)) == values
