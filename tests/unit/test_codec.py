"""Columns as bytes: what is encoded is decoded, in both forms, and damage is reported."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import EVENT_ID, BooleanValues, Chunk, Column, ColumnKey, ScaledNumbers
from repo.columns.codec import (
    FIELDS,
    PACKED,
    CorruptColumn,
    StoredKey,
    chunk_of,
    decode,
    decode_chunk,
    encode_chunk,
    encode_mapped,
    field_key,
    open_mapped,
    property_key,
    stored_columns,
)
from tests.columns import assert_equal_chunks
from tests.example_counts import examples

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PROPERTIES = (
    {"plan": "pro", "n": 1, "tags": ["a", "b"], "ok": True, "big": "x" * 50_000},
    {"plan": "free", "n": 2.5, "x": {"y": 10**30}, "ok": [True, False]},
    {"plan": "pro", "n": -(10**12), "tags": ["é", "\U0001f600", ""], "x": {"y": 1}},
)
PATHS = {1: ("plan",), 2: ("n",), 3: ("tags",), 4: ("ok",), 5: ("x", "y"), 6: ("big",)}
PATH_IDS = {path: path_id for path_id, path in PATHS.items()}


def chunk_of_size(count: int) -> Chunk:
    return build_chunk(
        [
            EventRecord(
                number * 10**9, number % 7, number % 300, 10**10 + number // 3,
                number.to_bytes(16) if number % 5 == 0 else bytes(16),
                json.dumps(PROPERTIES[number % 3] if number < 10 or number % 2 else {}),
            )
            for number in range(count)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 4_095, 4_096])
def test_a_chunk_is_decoded_as_it_was_encoded(count: int) -> None:
    chunk = chunk_of_size(count)
    stored = encode_chunk(chunk, PATH_IDS)
    assert_equal_chunks(decode_chunk(stored, PATHS), chunk)
    assert (list(stored) == [PACKED]) == (count < 4_096)


def test_a_large_chunk_has_an_entry_for_each_column() -> None:
    stored = encode_chunk(chunk_of_size(4_096), PATH_IDS)
    assert sorted(stored) == [
        (0, 1), (0, 2), (0, 3), (0, 4), (0, 5),
        (1, 1), (2, 2), (3, 1), (4, 3), (5, 2), (6, 1),
    ]  # fmt: skip
    assert list(decode(stored[StoredKey(1, 1)])) == [(1, 1)]


def test_single_columns_of_a_small_chunk_can_be_decoded() -> None:
    stored = encode_chunk(chunk_of_size(3), PATH_IDS)
    columns = decode(stored[PACKED], keys={field_key("user"), property_key(2, "number")})
    assert set(columns) == {(0, 2), (2, 2)}
    user, number = columns[StoredKey(0, 2)], columns[StoredKey(2, 2)]
    assert isinstance(user, np.ndarray)
    assert user.tolist() == [0, 1, 2]
    assert isinstance(number, Column)
    assert isinstance(number.values, ScaledNumbers)
    assert (number.values.scaled.tolist(), number.values.scale) == ([10, 25, -(10**13)], 1)


def test_a_file_is_mapped_without_copies(tmp_path: Path) -> None:
    chunk = chunk_of_size(5_000)
    columns = stored_columns(chunk, PATH_IDS)
    file = tmp_path / "columns"
    file.write_bytes(encode_mapped(columns))
    before = pa.total_allocated_bytes()
    mapped = open_mapped(file)
    assert pa.total_allocated_bytes() == before
    file.unlink()
    for array in arrays_of(mapped):
        assert not array.flags.writeable
        assert not array.flags.owndata
    assert_equal_chunks(chunk_of(mapped, PATHS), chunk)


def arrays_of(columns: dict[StoredKey, Any]) -> list[np.ndarray[Any, Any]]:
    """All arrays but those of ids, which are stored only where they are not zero."""
    arrays = [column for key, column in columns.items() if key.path_id == 0 and key.kind < 5]
    for column in columns.values():
        if isinstance(column, Column):
            values: Any = column.values
            names = ("codes", "scaled", "values")
            arrays += [getattr(values, name) for name in names if hasattr(values, name)]
            arrays += [] if column.rows is None else [column.rows]
    return arrays


def test_fields_have_their_types_in_both_forms(tmp_path: Path) -> None:
    chunk = chunk_of_size(10)
    file = tmp_path / "columns"
    file.write_bytes(encode_mapped(stored_columns(chunk, PATH_IDS)))
    for other in (
        decode_chunk(encode_chunk(chunk, PATH_IDS), PATHS),
        chunk_of(open_mapped(file), PATHS),
    ):
        dtypes = [getattr(other, name).dtype for name in FIELDS]
        assert dtypes == [np.int64, np.uint32, np.int32, np.int64, EVENT_ID]
        booleans = other.properties[ColumnKey(("ok",), "boolean")]
        assert isinstance(booleans.values, BooleanValues)
        assert booleans.values.values.dtype == np.bool_
        assert booleans.rows is not None
        assert booleans.rows.dtype == np.int32


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_times_and_transactions_are_decoded(times: list[int]) -> None:
    chunk = build_chunk([EventRecord(time, 1, 1, time, bytes(16), "{}") for time in times])
    decoded = decode_chunk(encode_chunk(chunk, {}), {})
    assert decoded.time.tolist() == sorted(times)
    assert decoded.xid.tolist() == sorted(times)


def test_regular_times_take_little_space() -> None:
    count = 131_072
    time = np.arange(count, dtype=np.int64) * 10**6
    empty = chunk_of_size(0)
    ids = np.zeros(count, EVENT_ID)
    user = np.zeros(count, np.uint32)
    chunk = dataclasses.replace(
        empty, time=time, xid=time, event_id=ids, user=user, name=user.astype(np.int32)
    )
    assert sum(map(len, encode_chunk(chunk, {}).values())) < 4_000


def test_equal_chunks_have_equal_bytes() -> None:
    assert encode_chunk(chunk_of_size(50), PATH_IDS) == encode_chunk(chunk_of_size(50), PATH_IDS)


ENCODED = encode_chunk(chunk_of_size(20), PATH_IDS)[PACKED]


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_damage_is_detected(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(ENCODED) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                ENCODED[:position],
                ENCODED[position + 1 :],
                ENCODED[:position] + bytes([ENCODED[position] ^ 0x55]) + ENCODED[position + 1 :],
            ]
        )
    )
    # A few bits of a zstd frame have no meaning.
    with contextlib.suppress(CorruptColumn):
        assert_equal_chunks(decode_chunk({PACKED: damaged}, PATHS), chunk_of_size(20))


@pytest.mark.parametrize("data", [b"", b"x" * 100, ENCODED[:-1], ENCODED[4:], zstd.compress(b"x")])
def test_bytes_that_are_no_columns_raise_an_error(data: bytes) -> None:
    with pytest.raises(CorruptColumn):
        decode(data)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 1_000, b"text" * 1_000])
def test_files_without_columns_raise_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "columns"
    file.write_bytes(content)
    with pytest.raises(CorruptColumn):
        open_mapped(file)


def test_an_incomplete_file_raises_an_error(tmp_path: Path) -> None:
    content = encode_mapped(stored_columns(chunk_of_size(10), PATH_IDS)).to_pybytes()
    file = tmp_path / "columns"
    for length in range(0, len(content) - 8, 97):
        file.write_bytes(content[:length])
        with pytest.raises(CorruptColumn):
            open_mapped(file)


def test_another_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repo.columns.codec._FORMAT", {"format": "2"})
    newer = encode_chunk(chunk_of_size(1), PATH_IDS)
    monkeypatch.undo()
    with pytest.raises(CorruptColumn, match="the format is b'2', not 1"):
        decode_chunk(newer, PATHS)


def test_columns_that_do_not_match_are_refused() -> None:
    columns = stored_columns(chunk_of_size(5), PATH_IDS)
    other = stored_columns(chunk_of_size(4), PATH_IDS)
    name = field_key("name")
    with pytest.raises(CorruptColumn, match="is missing"):
        chunk_of({key: each for key, each in columns.items() if key != name}, PATHS)
    with pytest.raises(CorruptColumn, match="is missing"):
        chunk_of(columns, {})
    with pytest.raises(CorruptColumn, match="differ in length"):
        chunk_of({**columns, name: other[name]}, PATHS)
    with pytest.raises(CorruptColumn, match="more rows"):
        chunk_of({**other, property_key(1, "text"): columns[property_key(1, "text")]}, PATHS)
