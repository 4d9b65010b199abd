"""Events and users by the values of properties, beside plain Python and in literal examples."""

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TooExpensive
from repo.columns import chunk as chunk_module
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk, ColumnKey
from repo.engine.cardinality import Count
from repo.engine.grouping import (
    category_counts,
    collector,
    memberships,
    ranking,
    user_counts,
    value_slices,
)
from repo.engine.grouping.collector import GroupCollector, GroupCount, Groups
from repo.engine.scan import Scan, Scanner
from repo.engine.timeline import Timeline
from tests import breakdown_oracle, where_oracle
from tests.breakdown_oracle import Breakdown, Row
from tests.chunks import event_fields, json_of, parsed, record
from tests.example_counts import examples
from tests.unit.test_timeline import ranges
from tests.where_oracle import Event, load
from tests.where_strategies import EVENT_NAMES, cases

NAMES = dict(enumerate(EVENT_NAMES, 1))
PATHS: list[tuple[str, ...]] = [("a",), ("b",), ("a", "a"), ("a.b",), ("",), ("none",)]
ALWAYS = "-none:*"


def grouped(
    chunks: Sequence[Chunk],
    by: Sequence[tuple[str, ...] | None],
    limit: int = 10,
    *,
    edges: Sequence[int],
    where: str = ALWAYS,
) -> tuple[Groups, list[int]]:
    """The groups of the events of adjacent ranges, and how often events repeat."""
    result = collected(chunks, by, edges=edges, where=where)
    return result.groups(limit, len(edges) - 1, lambda: None), result.repeated


def collected(
    chunks: Sequence[Chunk],
    by: Sequence[tuple[str, ...] | None],
    *,
    edges: Sequence[int],
    where: str = ALWAYS,
) -> GroupCollector:
    """The collector of the events of adjacent ranges."""
    filter_ = parsed(where)
    scan = Scan(question="breakdown", ranges=ranges(*edges), where=filter_)
    result = GroupCollector(by)
    result.names = NAMES
    scanner = Scanner(scan, result, event_fields(filter_), None, None)
    timeline = Timeline(scan.ranges)
    for chunk in chunks:
        scanner.add_parts(chunk, timeline.slices(int(chunk.time[0]), int(chunk.time[-1])))
    return result


def chunks_of(events: Sequence[Event], size: int) -> list[Chunk]:
    """Chunks of so many events, one event in each microsecond from 0."""
    records = [record(row, event, json_of(event.properties)) for row, event in enumerate(events)]
    return [build_chunk(records[first : first + size]) for first in range(0, len(events), size)]


def plain(groups: Groups) -> Breakdown:
    """Groups in the form of the oracle."""
    return Breakdown(
        counted(groups.total),
        list(map(row, groups.rows)),
        groups.other_groups,
        row(groups.other),
        counted(groups.missing),
    )


def counted(count: Count) -> tuple[int, int]:
    return count.events, count.users


def row(group: GroupCount) -> Row:
    return Row(
        [(type(each).__name__, each) for each in group.values],
        counted(group.total),
        list(map(counted, group.series)),
    )


@dataclass(frozen=True)
class Grouping:
    by: list[tuple[str, ...] | None]
    limit: int
    size: int
    """The events of a chunk."""
    cuts: frozenset[int]
    """Where ranges begin and end."""
    order: int
    """The seed of the order of chunks."""
    is_sparse: bool


groupings = st.builds(
    Grouping,
    by=st.lists(st.sampled_from([*PATHS[:2] * 3, *PATHS, None]), min_size=1, max_size=2),
    limit=st.integers(1, 6),
    size=st.integers(1, 7) | st.just(1_000),
    cuts=st.frozensets(st.integers(0, 40), min_size=2, max_size=5),
    order=st.integers(0, 3),
    is_sparse=st.booleans(),
)


def limit_tables(patch: pytest.MonkeyPatch) -> None:
    """Count as for very many values and users."""
    patch.setattr(collector, "_FEW", 0)
    patch.setattr(collector, "_DENSE", 0)
    patch.setattr(memberships, "_FEW", 0)
    patch.setattr(ranking, "_MAX_CELLS", 0)
    patch.setattr(category_counts, "_MAX_CELLS", 0)
    patch.setattr(user_counts, "_MAX_FLAGS", 0)
    patch.setattr(user_counts, "_MAX_PENDING", 3)
    patch.setattr(value_slices, "_SLICE_VALUES", 2)


@given(several=st.lists(cases(), min_size=1, max_size=4), grouping=groupings)
@settings(max_examples=examples(400))
def test_groups_agree_with_plain_python(several: list[Any], grouping: Grouping) -> None:
    events = [event for case in several for event in case.events]
    chunks = chunks_of(events, grouping.size)
    np.random.default_rng(grouping.order).shuffle(chunks)
    edges = sorted(grouping.cuts)
    with pytest.MonkeyPatch.context() as patch:
        if grouping.is_sparse:
            limit_tables(patch)
        for where in (ALWAYS, several[0].where):
            groups, repeated = grouped(
                chunks, grouping.by, grouping.limit, edges=edges, where=where
            )
            buckets = [
                [each for each in events[start:end] if where_oracle.matches(where, each)]
                for start, end in pairwise(edges)
            ]
            by = ["@event" if path is None else path for path in grouping.by]
            assert plain(groups) == breakdown_oracle.breakdown(buckets, by, grouping.limit)
            flat = [event for bucket in buckets for event in bucket]
            assert repeated == [breakdown_oracle.repeated(flat, path) for path in by]


def event(properties: str, user: str | None = "u1", name: str = "view") -> Event:
    return Event(user, name, load(properties))


def rows_of(*values: str, limit: int = 10) -> list[tuple[Any, ...]]:
    """The groups of events with these values of a property, in JSON."""
    events = [event(f'{{"a": {value}}}' if value else "{}") for value in values]
    groups, _ = grouped(chunks_of(events, 2), [("a",)], limit, edges=(0, len(events)))
    return [(*each.values, each.total.events) for each in groups.rows]


def test_types_are_told_apart_and_ties_are_ordered_by_value() -> None:
    values = ("", "true", '"5"', "5", "false", '"😀"', '"\ue000"', "-1e400", "null", "5.0", '"5"')
    assert [(type(value).__name__, str(value), count) for value, count in rows_of(*values)] == [
        ("Decimal", "5", 2),
        ("str", "5", 2),
        ("NoneType", "None", 2),
        ("Decimal", "-1E+400", 1),
        ("str", "\ue000", 1),
        ("str", "😀", 1),
        ("bool", "False", 1),
        ("bool", "True", 1),
    ]


def test_large_and_exact_numbers_are_distinct() -> None:
    values = ("9007199254740993", "9007199254740992", "9223372036854775807", "-9223372036854775808")
    assert sorted(str(value) for value, _ in rows_of(*values)) == sorted(values)
    assert rows_of("0.1", "0.10", "1e-1", "-0", "0") == [(load("0.1"), 3), (0, 2)]


def test_a_list_counts_in_each_distinct_element() -> None:
    events = [event('{"a": ["x", "y", "x"]}'), event('{"a": "x"}', "ü"), event('{"a": []}', None)]
    groups, repeated = grouped(chunks_of(events, 9), [("a",)], 1, edges=(0, 3))
    assert plain(groups) == Breakdown(
        total=(3, 2),
        rows=[Row([("str", "x")], (2, 2), [(2, 2)])],
        other_rows=2,
        other=Row([], (2, 1), [(2, 1)]),
        missing=(1, 0),
    )
    assert repeated == [1]


def test_pairs_are_ranked_as_pairs_and_one_may_be_missing() -> None:
    events = [
        event('{"a": "x", "b": 1}'),
        event('{"a": "x", "b": 1}', "ü"),
        event('{"a": "x"}', "ü"),
        event("{}", None),
    ]
    groups, _ = grouped(chunks_of(events, 1), [("a",), ("b",)], 2, edges=(0, 2, 4))
    assert plain(groups) == Breakdown(
        total=(4, 2),
        rows=[
            Row([("str", "x"), ("Decimal", 1)], (2, 2), [(2, 2), (0, 0)]),
            Row([("str", "x"), ("NoneType", None)], (1, 1), [(0, 0), (1, 1)]),
        ],
        other_rows=1,
        other=Row([], (1, 0), [(0, 0), (1, 0)]),
        missing=(2, 1),
    )


def test_no_events_are_no_groups() -> None:
    groups, _ = grouped([], [("a",)], edges=(0, 1))
    assert plain(groups) == Breakdown((0, 0), [], 0, Row([], (0, 0), [(0, 0)]), (0, 0))


def numbered(users: Sequence[int], values: Sequence[int]) -> Chunk:
    """A chunk of events of users by their ordinals, with texts as values."""
    pairs = zip(users, values, strict=True)
    return build_chunk(
        [
            EventRecord(row, user, 1, 1, row.to_bytes(16, "big"), f'{{"a": "v{value}"}}')
            for row, (user, value) in enumerate(pairs)
        ]
    )


@pytest.mark.parametrize("is_sparse", [False, True])
def test_many_values_and_users_agree_with_counting_each(
    monkeypatch: pytest.MonkeyPatch, is_sparse: bool
) -> None:
    random = np.random.default_rng(7)
    users, values = (random.integers(1, top, 20_000).tolist() for top in (500, 3_000))
    if is_sparse:
        limit_tables(monkeypatch)
        monkeypatch.setattr(user_counts, "_MAX_PENDING", 5_000)
        monkeypatch.setattr(value_slices, "_SLICE_VALUES", 1_000)
    chunks = [
        numbered(users[start:][:5_000], values[start:][:5_000]) for start in range(0, 20_000, 5_000)
    ]
    groups, _ = grouped([*chunks, *chunks], [("a",)], 1_000, edges=(0, 20_000))
    expected: dict[str, list[int]] = {}
    for user, value in zip(users, values, strict=True):
        expected.setdefault(f"v{value}", []).extend([user, user])
    ranked = sorted(expected.items(), key=lambda item: (-len(item[1]), item[0]))
    assert [(*each.values, *each.total) for each in groups.rows] == [
        (text, len(of_text), len(set(of_text))) for text, of_text in ranked[:1_000]
    ]
    rest = [user for _, of_text in ranked[1_000:] for user in of_text]
    assert tuple(groups.other.total) == (len(rest), len(set(rest)))


def test_ordinals_above_two_million_count() -> None:
    chunk = numbered([3_000_000, 2**32 - 1, 1, 1], [1, 1, 1, 2])
    groups, _ = grouped([chunk], [("a",)], 1, edges=(0, 4))
    assert (tuple(groups.total), tuple(groups.rows[0].total)) == ((4, 3), (3, 3))
    assert tuple(groups.other.total) == (1, 1)


def test_the_users_of_other_groups_take_little_memory() -> None:
    chunk = numbered([1, 2, 3, 4] * 2_500, [1, 1, 1, 2] * 2_500)
    result = collected([chunk] * 200, [("a",)], edges=(0, 10_000))
    tracemalloc.start()
    try:
        assert result.other_users(1, None, lambda: None).tolist() == [4]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("module", "limit", "message"),
    [
        (collector, "_MAX_BYTES", "bytes of groups and users"),
        (value_slices, "_MAX_TEXTS", "distinct texts of chunks"),
        (user_counts, "_MAX_KEYS", "pairs of a value and a user"),
    ],
)
def test_what_takes_too_much_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch, module: Any, limit: str, message: str
) -> None:
    monkeypatch.setattr(user_counts, "_MAX_FLAGS", 0)
    chunk = numbered([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    grouped([chunk], [("a",)], edges=(0, 5))
    monkeypatch.setattr(module, limit, 3)
    with pytest.raises(TooExpensive, match=message):
        grouped([chunk], [("a",)], edges=(0, 5), where="-a:v3")


def test_arrays_of_chunks_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_MAX_BYTES", 0)
    groups, _ = grouped([numbered([1, 2], [1, 1])], [("a",)], edges=(0, 2))
    assert tuple(groups.total) == (2, 2)


def test_too_many_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_slices, "_MAX_NUMBERS", 3)
    assert rows_of("1", "2", "3") == [(1, 1), (2, 1), (3, 1)]
    with pytest.raises(TooExpensive, match="distinct numbers of chunks"):
        rows_of("1", "2", "3", "4")


def test_too_many_pairs_of_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = chunks_of([event('{"a": [1, 2, 3], "b": [1, 2]}')], 1)
    groups, repeated = grouped(chunks, [("a",), ("b",)], edges=(0, 1))
    assert (len(groups.rows), repeated) == (6, [2, 1])
    monkeypatch.setattr(memberships, "_MAX_PAIRS", 5)
    with pytest.raises(TooExpensive, match="pairs of elements of lists"):
        grouped(chunks, [("a",), ("b",)], edges=(0, 1))


@pytest.mark.parametrize("edges", [(0, 9), (1, 9), (0, 4, 8)])
def test_values_of_whole_chunks_are_counted_once(edges: Sequence[int]) -> None:
    """Such counts are kept with the column, and also serve later questions."""
    plans = ["pro", "free", "pro", "pro", "team", "free", "free", "pro", "pro"]
    events = [Event("u1", "view", {"plan": plan}) for plan in plans]
    chunks = chunks_of(events, 3)
    first, last = edges[0], edges[-1]
    for _ in range(2):
        groups, _ = grouped(chunks, [("plan",)], edges=edges)
        rows = {str(each.values[0]): each.total.events for each in groups.rows}
        assert rows == dict(Counter(plans[first:last]))
    key = ColumnKey(("plan",), "text")
    counts = [each.properties[key].code_counts() for each in chunks]
    assert [each.tolist() for each in counts if each is not None] == [[1, 2], [1, 1, 1], [1, 2]]


def test_only_a_few_texts_are_counted_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    (chunk_of_all,) = chunks_of([Event("u1", "view", {"plan": plan, "n": 1}) for plan in "ab"], 9)
    assert chunk_of_all.properties[ColumnKey(("n",), "number")].code_counts() is None
    monkeypatch.setattr(chunk_module, "_MAX_COUNTED", 1)
    assert chunk_of_all.properties[ColumnKey(("plan",), "text")].code_counts() is None
