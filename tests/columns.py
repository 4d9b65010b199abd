"""Chunks of columns as plain Python values."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from repo.columns.chunk import (
    BooleanValues,
    Chunk,
    ColumnKey,
    DecimalNumbers,
    Kind,
    ScaledNumbers,
    TextValues,
    Values,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
decimals = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    list(
        map(
            Decimal,
            ["5.0", "-0.0", "5e0", "1e400", "-1E+400", "1e-400", "12345678901234567890.5",
             "0.000000000000000001", "0.0000000000000000010", "9223372036854775807",
             "9223372036854775807.0", "9007199254740993", "100.00"],
        )
    )
)  # fmt: skip
scalars = st.none() | st.booleans() | texts | st.integers(-3, 3) | st.integers() | decimals
keys = st.sampled_from(["a", "b", "", "a.b", "é"])
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)
objects = st.dictionaries(keys, json_values, max_size=4)


def to_json(value: Any) -> str:
    """Return JSON with exact numbers."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{to_json(value[key])}" for key in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


RowValue = tuple[int, str | Decimal | bool]


def column_values(chunk: Chunk, key: ColumnKey) -> list[RowValue]:
    """Return the row and value of each value of a column."""
    column = chunk.properties[key]
    rows = range(len(chunk)) if column.rows is None else column.rows.tolist()
    return list(zip(rows, plain_values(column.values), strict=True))


def plain_values(values: Values) -> list[Any]:
    match values:
        case TextValues(codes, dictionary):
            texts = dictionary.to_pylist()
            return [texts[code] for code in codes]
        case DecimalNumbers(codes, dictionary):
            numbers = [Decimal(text) for text in dictionary.to_pylist()]
            return [numbers[code] for code in codes]
        case ScaledNumbers(scaled, scale):
            return [Decimal(f"{number}e-{scale}") for number in scaled.tolist()]
        case BooleanValues(booleans):
            return list(booleans.tolist())


def plain_columns(properties: Iterable[str]) -> dict[ColumnKey, list[RowValue]]:
    """Return the values of JSON objects, in the order of rows, by path and kind."""
    columns: dict[ColumnKey, list[RowValue]] = defaultdict(list)
    for row, text in enumerate(properties):
        for path, value in _leaves((), json.loads(text, parse_float=Decimal)):
            columns[ColumnKey(path, _kind(value))].append((row, value))
    return dict(columns)


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves((*path, key), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(path, inner)
    elif value is not None:
        yield path, value


def _kind(value: Any) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def assert_equal_chunks(chunk: Chunk, other: Chunk) -> None:
    """Compare all fields and columns, with their canonical forms."""
    for name in ("time", "user", "name", "xid", "event_id"):
        assert getattr(chunk, name).tolist() == getattr(other, name).tolist(), name
    assert list(chunk.properties) == list(other.properties)
    for key in chunk.properties:
        column, expected = chunk.properties[key], other.properties[key]
        assert type(column.values) is type(expected.values), key
        assert column_values(chunk, key) == column_values(other, key), key
        assert (column.rows is None) == (expected.rows is None), key
        assert _form(column.values) == _form(expected.values), key


def _form(values: Values) -> Any:
    """Return what equal values could have in different forms."""
    match values:
        case TextValues(_, dictionary) | DecimalNumbers(_, dictionary):
            return dictionary.to_pylist()
        case ScaledNumbers(scaled, scale):
            return scaled.dtype, scale
        case BooleanValues():
            return None
