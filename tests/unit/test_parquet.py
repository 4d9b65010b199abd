"""Rows of Parquet, with nested columns as JSON values."""

import io
from itertools import chain
from typing import Any, cast

import pyarrow
import pytest
from pyarrow import parquet

from services.ingest.input_rows import TruncatedInput, UnreadableInput
from services.ingest.mapping.tables import Record
from services.ingest.parquet import parquet_records
from services.ingest.validation import Invalid

ID = "00000000-0000-4000-8000-000000000001"
TIME = "2025-01-31T09:00:00Z"


def written(**more: Any) -> bytes:
    columns = {"event_id": [ID], "event_name": ["view"], "occurred_at": [TIME]} | more
    parquet.write_table(pyarrow.table(columns), buffer := io.BytesIO())
    return buffer.getvalue()


def rows(content: bytes) -> list[Record]:
    file = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(content)))
    return list(chain.from_iterable(parquet_records(file, 500)))


def test_a_row_has_the_values_of_its_columns() -> None:
    (record,) = rows(written(user_id=["u"]))
    fields = {"event_id": ID, "event_name": "view", "occurred_at": TIME, "user_id": "u"}
    assert (record.number, record.row) == (1, fields)


def test_structs_and_maps_are_objects() -> None:
    pairs = pyarrow.array([[("a", 1), ("b", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    for properties in ([{"a": 1, "b": 2}], pairs):
        (record,) = rows(written(properties=properties))
        assert not isinstance(record.row, Invalid)
        assert record.row["properties"] == {"a": 1, "b": 2}


def test_a_map_with_a_repeated_key_is_refused() -> None:
    pairs = pyarrow.array([[("a", 1), ("a", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    (record,) = rows(written(properties=pairs))
    assert str(record.row) == "properties must not have a key twice"


def test_what_is_no_parquet_is_refused() -> None:
    with pytest.raises(UnreadableInput, match="this is not a Parquet file"):
        rows(b"PAR1 and no more")


def test_damage_is_told_as_such() -> None:
    content = written(user_id=["u"])
    with pytest.raises(TruncatedInput, match="the Parquet file is damaged"):
        rows(content[:4] + bytes(60) + content[64:])


def test_a_file_without_columns_is_refused() -> None:
    parquet.write_table(pyarrow.table({}), buffer := io.BytesIO())
    with pytest.raises(UnreadableInput, match="the Parquet file has no columns"):
        rows(buffer.getvalue())
