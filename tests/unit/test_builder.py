"""Chunks that are built from events, compared with literal columns and with plain Python."""

import json
import tracemalloc
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.columns.builder import (
    EventRecord,
    PathLimit,
    build_chunk,
)
from repo.columns.chunk import (
    BooleanValues,
    Chunk,
    Column,
    ColumnKey,
    DecimalNumbers,
    Kind,
    ScaledNumbers,
    TextValues,
)
from repo.columns.property_collector import MAX_PATH_BYTES, is_too_long
from repo.columns.values import python_values
from tests.columns import column_values, objects, plain_columns, to_json
from tests.example_counts import examples


def event(properties: str, time: int = 0, user: int = 1, number: int = 0) -> EventRecord:
    return EventRecord(time, user, 1, 1, number.to_bytes(16), properties)


def chunk_of(*properties: str) -> Chunk:
    return build_chunk([event(text, time) for time, text in enumerate(properties)])


def column(chunk: Chunk, kind: Kind, *path: str) -> Column:
    return chunk.properties[ColumnKey(path, kind)]


def numbers_of(*properties: str) -> ScaledNumbers | DecimalNumbers:
    values = column(chunk_of(*properties), "number", "n").values
    assert isinstance(values, ScaledNumbers | DecimalNumbers)
    return values


def rows(chunk: Chunk, kind: Kind, *path: str) -> list[int] | None:
    found = column(chunk, kind, *path).rows
    return None if found is None else found.tolist()


def test_events_are_sorted_by_time_user_and_id() -> None:
    chunk = build_chunk(
        [
            EventRecord(20, 1, 5, 100, b"\1" * 16, "{}"),
            EventRecord(10, 2, 6, 101, b"\x90" * 16, "{}"),
            EventRecord(10, 2, 7, 102, b"\2" * 16, "{}"),
            EventRecord(10, 0, 8, 103, b"\xff" * 16, "{}"),
            EventRecord(-5, 9, 9, 104, b"\0" * 16, "{}"),
        ]
    )
    assert chunk.time.tolist() == [-5, 10, 10, 10, 20]
    assert chunk.user.tolist() == [9, 0, 2, 2, 1]
    assert chunk.name.tolist() == [9, 8, 7, 6, 5]
    assert chunk.xid.tolist() == [104, 103, 102, 101, 100]
    assert [bytes(each)[:1] for each in chunk.event_id] == [b"\0", b"\xff", b"\2", b"\x90", b"\1"]
    dtypes = [chunk.time.dtype, chunk.user.dtype, chunk.name.dtype, chunk.xid.dtype]
    assert dtypes == [np.int64, np.uint32, np.int32, np.int64]


small = st.integers(0, 3)


@given(st.lists(st.tuples(small, small, st.binary(min_size=2, max_size=2)), unique=True))
@settings(max_examples=examples(100), deadline=None)
def test_events_with_equal_times_are_sorted(events: list[tuple[int, int, bytes]]) -> None:
    stored = [EventRecord(time, user, 1, 1, part * 8, "{}") for time, user, part in events]
    chunk = build_chunk(stored)
    ids = [bytes(each)[:2] for each in chunk.event_id]
    keys = list(zip(chunk.time.tolist(), chunk.user.tolist(), ids, strict=True))
    assert keys == sorted(events)


def test_ids_are_compared_from_their_first_byte() -> None:
    smaller, larger = b"\1" + b"\xff" * 15, b"\xf0" + b"\0" * 15
    chunk = build_chunk([EventRecord(1, 1, 1, 1, each, "{}") for each in (larger, smaller)])
    assert [bytes(each) for each in chunk.event_id] == [smaller, larger]


def test_texts_are_codes_of_a_sorted_dictionary() -> None:
    chunk = chunk_of('{"a": "\\ue000"}', "{}", '{"a": "\\ud83d\\ude00"}', '{"a": ""}', '{"a": "Z"}')
    values = column(chunk, "text", "a").values
    assert isinstance(values, TextValues)
    # By code point; UTF-16 would put the emoji before U+E000.
    assert values.dictionary.to_pylist() == ["", "Z", "\ue000", "\U0001f600"]
    assert values.codes.tolist() == [2, 3, 0, 1]
    assert rows(chunk, "text", "a") == [0, 2, 3, 4]


def test_values_of_several_types_have_a_column_for_each() -> None:
    chunk = chunk_of('{"a": 5}', '{"a": "5"}', '{"a": true}', '{"a": null}', '{"a": false}')
    assert rows(chunk, "number", "a") == [0]
    assert rows(chunk, "text", "a") == [1]
    booleans = column(chunk, "boolean", "a").values
    assert isinstance(booleans, BooleanValues)
    assert (booleans.values.tolist(), rows(chunk, "boolean", "a")) == ([True, False], [2, 4])


def test_a_value_in_each_row_needs_no_rows() -> None:
    assert rows(chunk_of('{"a": "x"}', '{"a": "y"}'), "text", "a") is None
    assert rows(chunk_of('{"a": ["x", "y"]}', "{}"), "text", "a") == [0, 0]


def test_lists_are_flattened_in_their_order() -> None:
    chunk = chunk_of('{"a": ["c", [["b"], 1], "a", null, {}, []]}', '{"a": "z"}')
    assert column_values(chunk, ColumnKey(("a",), "text")) == [
        (0, "c"), (0, "b"), (0, "a"), (1, "z"),
    ]  # fmt: skip
    assert column_values(chunk, ColumnKey(("a",), "number")) == [(0, 1)]


def test_paths_go_through_objects_and_lists() -> None:
    chunk = chunk_of(
        '{"items": [{"sku": "b", "n": 1}, {"sku": "a"}, [{"sku": "c"}]], "items.sku": "x"}',
        '{"": {"": 1}, "items": {"sku": "d"}}',
    )
    assert column_values(chunk, ColumnKey(("items", "sku"), "text")) == [
        (0, "b"), (0, "a"), (0, "c"), (1, "d"),
    ]  # fmt: skip
    assert column_values(chunk, ColumnKey(("items.sku",), "text")) == [(0, "x")]
    assert column_values(chunk, ColumnKey(("", ""), "number")) == [(1, 1)]
    assert len(chunk.properties) == 4


def test_what_has_no_value_has_no_column() -> None:
    assert (
        chunk_of('{"a": null, "b": {}, "c": [], "d": [null, {"e": [null]}]}', "{}").properties == {}
    )


def test_no_events_are_an_empty_chunk() -> None:
    chunk = build_chunk([])
    assert (len(chunk), len(chunk.event_id), chunk.properties) == (0, 0, {})


@pytest.mark.parametrize(
    ("numbers", "scaled", "scale"),
    [
        (["5", "5.0", "5e0", "50e-1"], [5, 5, 5, 5], 0),
        (["-0", "-0.0", "0e5", "0"], [0, 0, 0, 0], 0),
        (["1.50", "-2"], [15, -20], 1),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)], 0),
        (["9223372036854775807", "1.0"], [2**63 - 1, 1], 0),
        (["0.000000000000000001", "9.000000000000000000000"], [1, 9 * 10**18], 18),
        (["9007199254740993", "9007199254740992.0"], [2**53 + 1, 2**53], 0),
        (["1" + "0" * 18 + "." + "0" * 5000], [10**18], 0),
        (["1e18", "1E+2"], [10**18, 100], 0),
    ],
)
def test_numbers_are_scaled_integers(numbers: list[str], scaled: list[int], scale: int) -> None:
    values = numbers_of(*(f'{{"n": {number}}}' for number in numbers))
    assert isinstance(values, ScaledNumbers)
    assert (values.scaled.tolist(), values.scale) == (scaled, scale)


@pytest.mark.parametrize(
    ("numbers", "dictionary", "codes"),
    [
        (["9223372036854775808", "1"], ["1", "9223372036854775808"], [1, 0]),
        (["0.0000000000000000001", "-0.0"], ["0", "0.0000000000000000001"], [1, 0]),
        (["9223372036854775807", "0.5", "5e-1"], ["0.5", "9223372036854775807"], [1, 0, 0]),
        (["1e400", "10e399", "-1E400", "1e-400"], ["-1e400", "1e-400", "1e400"], [2, 2, 0, 1]),
        (["9" * 60_000, "1"], ["1", "9" * 60_000 + "e0"], [1, 0]),
        (["1" + "0" * 60_000 + ".5"], ["1" + "0" * 60_000 + "5e-1"], [0]),
        (["12345678901234567890.5", "5.0"], ["5", "12345678901234567890.5"], [1, 0]),
        (["1e25", "1e-38"], ["0." + "0" * 37 + "1", "1" + "0" * 25], [1, 0]),
        (["-1" + "0" * 37, "0." + "0" * 37 + "1"], ["-1e37", "1e-38"], [0, 1]),
        (["1e38", "1e-39", "1e2"], ["1e-39", "100", "1e38"], [2, 0, 1]),
    ],
)
def test_numbers_that_do_not_fit_are_codes_of_a_dictionary_in_the_order_of_values(
    numbers: list[str], dictionary: list[str], codes: list[int]
) -> None:
    values = numbers_of(*(f'{{"n": {number}}}' for number in numbers))
    assert isinstance(values, DecimalNumbers)
    present = values.dictionary.to_pylist()
    assert [Decimal(text) for text in present] == [Decimal(text) for text in dictionary]
    assert values.codes.tolist() == codes


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(127, np.int8), (128, np.int16), (2**15, np.int32), (2**31, np.int64)],
)
def test_numbers_have_the_smallest_type(largest: int, dtype: type) -> None:
    for number in (largest, -largest - 1):
        values = numbers_of(f'{{"n": {number}}}')
        assert isinstance(values, ScaledNumbers)
        assert values.scaled.dtype == dtype


@pytest.mark.parametrize("as_text", [str, str.encode])
def test_deep_nesting_is_decoded(as_text: Any) -> None:
    lists = '{"a": ' + "[" * 30_000 + '"x\\"}", true, ' + "9" * 5_000 + "]" * 30_000 + "}"
    objects = '{"a": ' * 9_000 + "1" + "}" * 9_000
    chunk = build_chunk([event(as_text(lists)), event(as_text(objects), time=1)])
    assert column_values(chunk, ColumnKey(("a",), "text")) == [(0, 'x"}')]
    assert column_values(chunk, ColumnKey(("a",), "boolean")) == [(0, True)]
    assert column_values(chunk, ColumnKey(("a",), "number")) == [(0, Decimal("9" * 5_000))]
    assert len(chunk.properties) == 3


def test_values_of_paths_that_are_too_long_are_left_out() -> None:
    longest = ("k" * (MAX_PATH_BYTES - 16), "")
    assert not is_too_long(longest)
    assert is_too_long((*longest, ""))
    chunk = chunk_of(json.dumps({longest[0]: {"": 1, "k": 2}, "a" * 60_000: 3, "b": 4}))
    assert [key.path for key in chunk.properties] == [("b",), longest]


def test_objects_and_lists_may_be_nested_as_deep_as_events_allow() -> None:
    levels = 10_000
    nested = '{"":[' * levels + "1" + "]}" * levels
    chunk = chunk_of(nested, '{"":[{"":[1]}, {"":[2, {"a":3}]}, [[{"":4}]]]}')
    numbers = chunk.properties[ColumnKey(("", ""), "number")]
    assert python_values(numbers.values) == [1, 2, 4]
    assert [key.path for key in chunk.properties] == [("", ""), ("", "", "a")]


def test_a_limit_admits_the_first_paths_in_the_order_of_events() -> None:
    limit = PathLimit({("known",)}, limit=3)
    events = [
        event('{"third": 1, "known": 1}', time=2),
        event('{"first": {"x": 1}, "none": null}', time=0),
        event('{"second": "a", "first": {"x": true}}', time=1),
    ]
    chunk = build_chunk(events, limit)
    assert {key.path for key in chunk.properties} == {("known",), ("first", "x"), ("second",)}
    assert limit.new == [("first", "x"), ("second",)]
    assert limit.left_out


def test_a_limit_that_suffices_leaves_out_nothing() -> None:
    limit = PathLimit(set(), limit=1)
    build_chunk([event('{"a": 1}'), event('{"a": "x", "b": null}')], limit)
    assert (limit.new, limit.left_out) == ([("a",)], False)


def test_thousands_of_keys_in_each_event_are_bounded_by_the_limit() -> None:
    limit = PathLimit(set(), limit=2_000)
    events = [
        event(json.dumps({f"{number}_{key}": {"x": key} for key in range(3_000)}), time=number)
        for number in range(20)
    ]
    chunk = build_chunk(events, limit)
    assert len(chunk.properties) == 2_000
    assert limit.left_out


@pytest.mark.parametrize(
    "properties",
    [
        [f'{{"n": [{", ".join(map(str, range(1_000, 11_000)))}]}}'] * 60,
        [json.dumps({f"{event}.{key}": {"x": 1} for key in range(500)}) for event in range(60)],
    ],
)
def test_memory_does_not_grow_with_the_text_of_a_batch(properties: list[str]) -> None:
    """Python objects are freed meanwhile: without that, these batches need 27 MB and more."""
    tracemalloc.start()
    try:
        build_chunk([event(text, time) for time, text in enumerate(properties)], lambda _: False)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_more_text_than_is_decoded_at_once_is_one_column() -> None:
    large = "x" * 60_000
    chunk = chunk_of(*(f'{{"a": "{number}{large}", "n": {number}}}' for number in range(150)))
    assert column_values(chunk, ColumnKey(("a",), "text")) == [
        (number, f"{number}{large}") for number in range(150)
    ]
    assert column_values(chunk, ColumnKey(("n",), "number")) == [(n, n) for n in range(150)]


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), objects), max_size=8), st.randoms())
def test_columns_are_those_of_plain_python_in_any_order_of_events(
    events: list[tuple[int, int, dict[str, Any]]], random: Any
) -> None:
    records = [
        event(to_json(properties), time, user, number)
        for number, (time, user, properties) in enumerate(events)
    ]
    shuffled = random.sample(records, len(records))
    chunk = build_chunk(shuffled)
    ordered = sorted(records, key=lambda each: (each.time, each.user, each.event_id))
    assert [bytes(each) for each in chunk.event_id] == [each.event_id for each in ordered]
    columns = {key: column_values(chunk, key) for key in chunk.properties}
    assert columns == plain_columns(str(each.properties) for each in ordered)
