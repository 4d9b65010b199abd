"""Chunks made of other chunks, compared with chunks that are built from the same events."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk, ColumnKey, DecimalNumbers, ScaledNumbers, TextValues
from repo.columns.chunk_operations import (
    concatenate,
    memory_bytes,
    select,
    split,
    without_properties,
)
from tests.columns import assert_equal_chunks, column_values, objects, to_json
from tests.example_counts import examples


def event(time: int, properties: str = "{}", user: int = 1, number: int = 0) -> EventRecord:
    return EventRecord(time, user, number % 5, number, number.to_bytes(16), properties)


def merged(*groups: list[EventRecord]) -> Chunk:
    return concatenate([build_chunk(group) for group in groups])


def test_chunks_that_overlap_in_time_are_merged() -> None:
    chunk = merged(
        [event(1, '{"a": "x"}', number=1), event(5, '{"a": ["z", "x"], "n": 1}', number=2)],
        [event(0, "{}", number=3), event(3, '{"a": "y"}', number=4), event(9, "{}", number=5)],
    )
    assert chunk.time.tolist() == [0, 1, 3, 5, 9]
    assert chunk.xid.tolist() == [3, 1, 4, 2, 5]
    assert column_values(chunk, ColumnKey(("a",), "text")) == [
        (1, "x"), (2, "y"), (3, "z"), (3, "x"),
    ]  # fmt: skip
    assert column_values(chunk, ColumnKey(("n",), "number")) == [(3, 1)]


def test_dictionaries_are_united_in_their_order() -> None:
    chunk = merged([event(0, '{"a": "b"}')], [event(1, '{"a": "a"}')], [event(2, '{"a": "b"}')])
    column = chunk.properties[ColumnKey(("a",), "text")]
    assert isinstance(column.values, TextValues)
    assert column.values.dictionary.to_pylist() == ["a", "b"]
    assert column.values.codes.tolist() == [1, 0, 1]
    assert column.rows is None


@pytest.mark.parametrize(
    ("numbers", "scaled", "scale"),
    [
        (["1.5", "2"], [15, 20], 1),
        (["1.25", "0.5"], [125, 50], 2),
        (["9223372036854775807", "1"], [2**63 - 1, 1], 0),
    ],
)
def test_scales_of_numbers_are_united(numbers: list[str], scaled: list[int], scale: int) -> None:
    chunk = merged(*([event(time, f'{{"n": {each}}}')] for time, each in enumerate(numbers)))
    values = chunk.properties[ColumnKey(("n",), "number")].values
    assert isinstance(values, ScaledNumbers)
    assert (values.scaled.tolist(), values.scale) == (scaled, scale)


def test_numbers_that_fit_no_common_scale_become_decimals_and_back() -> None:
    chunk = merged([event(0, '{"n": 9223372036854775807}')], [event(1, '{"n": 0.5}')])
    values = chunk.properties[ColumnKey(("n",), "number")].values
    assert isinstance(values, DecimalNumbers)
    assert values.dictionary.to_pylist() == ["0.5", "9223372036854775807"]
    assert values.codes.tolist() == [1, 0]
    rest = select(chunk, np.array([False, True]))
    values = rest.properties[ColumnKey(("n",), "number")].values
    assert isinstance(values, ScaledNumbers)
    assert (values.scaled.tolist(), values.scale) == ([5], 1)


def test_a_selection_forgets_values_that_no_event_has() -> None:
    chunk = build_chunk(
        [
            event(0, '{"a": "secret", "only": true, "n": 0.125}'),
            event(1, '{"a": ["x", "y"], "n": 5}', user=2),
            event(2, '{"a": "secret"}'),
        ]
    )
    rest = select(chunk, chunk.user != 1)
    column = rest.properties[ColumnKey(("a",), "text")]
    assert isinstance(column.values, TextValues)
    assert column.values.dictionary.to_pylist() == ["x", "y"]
    assert column.rows is not None
    assert column.rows.tolist() == [0, 0]
    number = rest.properties[ColumnKey(("n",), "number")]
    assert number.values == ScaledNumbers(np.array([5], np.int8), 0)
    assert set(rest.properties) == {(("a",), "text"), (("n",), "number")}


def test_a_selection_of_nothing_is_empty() -> None:
    rest = select(build_chunk([event(0, '{"a": 1}')]), np.array([False]))
    assert (len(rest), rest.properties) == (0, {})


def test_a_chunk_is_split_into_chunks_of_a_size_and_the_rest() -> None:
    events = [event(time, f'{{"n": {time}}}', number=time) for time in range(5)]
    parts = split(build_chunk(events), 2)
    assert [part.time.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    for part, first in zip(parts, (0, 2, 4), strict=True):
        assert_equal_chunks(part, build_chunk(events[first : first + 2]))
    assert [part.time.tolist() for part in split(build_chunk(events), 5)] == [[0, 1, 2, 3, 4]]
    assert split(build_chunk([]), 5) == []


def test_a_chunk_without_properties_keeps_its_fields() -> None:
    chunk = without_properties(build_chunk([event(7, '{"a": 1}', number=3)]))
    assert (chunk.time.tolist(), chunk.xid.tolist(), chunk.properties) == ([7], [3], {})


def test_the_memory_of_a_chunk_includes_its_texts() -> None:
    # 8 + 4 + 4 + 8 + 16 for the event, 4 for the code.
    assert memory_bytes(build_chunk([event(0)])) == 40
    assert 100_044 <= memory_bytes(build_chunk([event(0, f'{{"a": "{"x" * 100_000}"}}')])) < 100_100


events_of_users = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), objects), max_size=12)


@settings(max_examples=examples(300), deadline=None)
@given(events_of_users, st.data())
def test_parts_of_events_are_merged_to_the_chunk_of_all(
    events: list[tuple[int, int, dict[str, Any]]], data: st.DataObject
) -> None:
    records = records_of(events)
    parts: list[list[EventRecord]] = [[], [], []]
    for record in records:
        parts[data.draw(st.integers(0, 2))].append(record)
    assert_equal_chunks(merged(*parts), build_chunk(records))


@settings(max_examples=examples(300), deadline=None)
@given(events_of_users, st.data())
def test_a_selection_is_the_chunk_of_the_events_that_remain(
    events: list[tuple[int, int, dict[str, Any]]], data: st.DataObject
) -> None:
    chunk = build_chunk(records_of(events))
    keep = np.array([data.draw(st.booleans()) for _ in events], np.bool_)
    remaining = {int.from_bytes(bytes(each)) for each in chunk.event_id[keep]}
    rest = build_chunk([each for each in records_of(events) if each.xid in remaining])
    assert_equal_chunks(select(chunk, keep), rest)


def records_of(events: list[tuple[int, int, dict[str, Any]]]) -> list[EventRecord]:
    return [
        event(time, to_json(properties), user, number)
        for number, (time, user, properties) in enumerate(events)
    ]
