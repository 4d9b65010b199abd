"""Rows of Parquet, with nested columns as JSON values."""

import io
from typing import Any, cast

import pyarrow
import pytest
from pyarrow import parquet

from services.ingest.input_rows import ColumnMapping, InputRow, TruncatedInput, UnreadableInput
from services.ingest.parquet import parquet_rows
from services.ingest.validation import RawEvent

ID = "00000000-0000-4000-8000-000000000001"
TIME = "2025-01-31T09:00:00Z"


def written(**more: Any) -> bytes:
    columns = {"event_id": [ID], "event_name": ["view"], "occurred_at": [TIME]} | more
    parquet.write_table(pyarrow.table(columns), buffer := io.BytesIO())
    return buffer.getvalue()


def rows(content: bytes) -> list[InputRow]:
    file = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(content)))
    return list(parquet_rows(file, ColumnMapping()))


def test_a_row_has_the_fields_of_its_columns() -> None:
    (row,) = rows(written(user_id=["u"]))
    assert (row.number, row.event) == (1, RawEvent(ID, "u", "view", TIME, None))


def test_structs_and_maps_are_objects() -> None:
    pairs = pyarrow.array([[("a", 1), ("b", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    for properties in ([{"a": 1, "b": 2}], pairs):
        (row,) = rows(written(properties=properties))
        assert row.event == RawEvent(ID, None, "view", TIME, {"a": 1, "b": 2})


def test_a_map_with_a_repeated_key_is_refused() -> None:
    pairs = pyarrow.array([[("a", 1), ("a", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    (row,) = rows(written(properties=pairs))
    assert str(row.event) == "properties must not have a key twice"


def test_what_is_no_parquet_is_refused() -> None:
    with pytest.raises(UnreadableInput, match="this is not a Parquet file"):
        rows(b"PAR1 and no more")


def test_damage_is_told_as_such() -> None:
    content = written(user_id=["u"])
    with pytest.raises(TruncatedInput, match="the Parquet file is damaged"):
        rows(content[:4] + bytes(60) + content[64:])
