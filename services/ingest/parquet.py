"""Parquet reader: converts rows, with nested columns as JSON values."""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, cast

from services.ingest.input_rows import (
    Input,
    TruncatedInput,
    UnreadableInput,
)
from services.ingest.mapping.row_format import ONE_OF
from services.ingest.mapping.tables import Record
from services.ingest.validation import Invalid

_PAIR = {"key", "value"}

_Plain = Callable[[Any], Any]


class _Unstorable(ValueError):
    """A map with a duplicate key, or with a key that is null."""


def parquet_records(file: Input, max_rows: int) -> Iterator[list[Record]]:
    """The rows as dictionaries, at most `max_rows` at a time.

    Raises: UnreadableInput, TruncatedInput.
    """
    for number, batch in parquet_batches(file, max_rows):
        yield batch_records(number, batch)


def parquet_batches(file: Input, max_rows: int) -> Iterator[tuple[int, Any]]:
    """Batches of Arrow, and the numbers of their first rows.

    Raises: UnreadableInput, TruncatedInput.
    """
    import pyarrow

    source, number = _opened(file), 1
    if not source.schema_arrow.names:
        raise UnreadableInput("the Parquet file has no columns")
    try:
        for batch in source.iter_batches(batch_size=max_rows):
            yield number, batch
            number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as exc:
        raise TruncatedInput(f"the Parquet file is damaged: {exc}") from exc


def batch_records(number: int, batch: Any, ignored: Container[str] = frozenset()) -> list[Record]:
    """The rows of a batch, the first one with this number, as dictionaries.

    A row with a value that cannot be read is Invalid, unless its column is ignored.
    """
    columns = list(map(column_values, batch.columns))
    rows = zip(*columns, strict=True) if columns else ()
    names = batch.schema.names
    return [_record(at, names, row, ignored) for at, row in enumerate(rows, number)]


def column_names(file: Input) -> list[str]:
    """The names of the columns. Raises: UnreadableInput."""
    names: list[str] = _opened(file).schema_arrow.names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UnreadableInput(f"two columns have the same name: {', '.join(repeated)}")
    return names


def _opened(file: Input) -> Any:
    """The file of pyarrow. Raises: UnreadableInput."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except pyarrow.ArrowException as exc:
        raise UnreadableInput(f"this is not a Parquet file: {exc}") from exc


def _record(number: int, names: list[str], row: tuple[Any, ...], ignored: Container[str]) -> Record:
    for name, value in zip(names, row, strict=True):
        if isinstance(value, Invalid) and name not in ignored:
            return Record(number, row, Invalid(f"{name} {value}"))
    return Record(number, row, dict(zip(names, row, strict=True)))


def column_values(column: Any) -> list[Any]:
    """The values of a column in Python types; an invalid value becomes `Invalid`."""
    # Nanoseconds are truncated: PostgreSQL and Python only have microseconds.
    import pyarrow

    if (kind := in_microseconds(column.type)) != column.type:
        column = column.cast(kind, safe=False)
    plain = _plain(column.type)
    try:
        values = column.to_pylist()
    # One invalid value fails the whole column: convert each by itself to reject only its row.
    except (OverflowError, ValueError, pyarrow.ArrowException):
        values = [_value(cell) for cell in column]
    return values if plain is None else [_convert(plain, value) for value in values]


def in_microseconds(kind: Any) -> Any:
    """The type with timestamps in microseconds instead of nanoseconds, at any depth."""
    import pyarrow
    from pyarrow import types

    if types.is_timestamp(kind) and kind.unit == "ns":
        return pyarrow.timestamp("us", kind.tz)
    if types.is_map(kind):
        return pyarrow.map_(in_microseconds(kind.key_type), in_microseconds(kind.item_type))
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(in_microseconds(field.type)) for field in kind])
    if types.is_list(kind):
        return pyarrow.list_(in_microseconds(kind.value_type))
    if types.is_large_list(kind):
        return pyarrow.large_list(in_microseconds(kind.value_type))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(in_microseconds(kind.value_type), kind.list_size)
    return kind


def _value(cell: Any) -> Any:
    """The Python value of one cell, or `Invalid`."""
    import pyarrow

    try:
        return cell.as_py()
    except (OverflowError, ValueError, pyarrow.ArrowException):
        return Invalid("cannot be read: it is not a valid text, time or time zone")


def _convert(plain: _Plain, value: Any) -> Any:
    try:
        return value if isinstance(value, Invalid) else plain(value)
    except _Unstorable as exc:
        return Invalid(str(exc))


def _plain(kind: Any) -> _Plain | None:
    """A function that converts values of this type for JSON; None if none is needed.

    Maps, and lists of structs with `key` and `value`, become objects.
    """
    from pyarrow import types

    if types.is_map(kind):
        return _nullable(_object(_plain(kind.item_type)))
    if types.is_struct(kind):
        return _nullable(_struct({field.name: _plain(field.type) for field in kind}))
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return None
    if is_pair(kind.value_type):
        return _nullable(_pairs(_object(_one_of(kind.value_type.field("value").type))))
    inner = _plain(kind.value_type)
    return _nullable(lambda values: [inner(value) for value in values]) if inner else None


def _nullable(plain: _Plain) -> _Plain:
    return lambda value: None if value is None else plain(value)


def is_pair(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and {field.name for field in kind} == _PAIR


def _one_of(kind: Any) -> _Plain | None:
    """A converter for a union, a struct such as {string_value, int_value, double_value}: it takes
    the value that is not null."""
    from pyarrow import types

    inner = _plain(kind)
    if not types.is_struct(kind) or not all(field.name.endswith(ONE_OF) for field in kind):
        return inner
    assert inner is not None, "a struct is converted"

    def single(value: Any) -> Any:
        non_null = [
            candidate for candidate in (inner(value) or {}).values() if candidate is not None
        ]
        return non_null[0] if len(non_null) == 1 else inner(value) if non_null else None

    return single


def _struct(inner: dict[str, _Plain | None]) -> _Plain:
    return lambda value: {
        name: plain(value[name]) if (plain := inner[name]) else value[name] for name in value
    }


def _pairs(plain: _Plain) -> _Plain:
    return lambda values: plain((pair["key"], pair["value"]) for pair in values if pair)


def _object(inner: _Plain | None) -> _Plain:
    def plain(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        items = [(_key(key), inner(value) if inner else value) for key, value in pairs]
        if len(dict(items)) < len(items):
            raise _Unstorable("must not have a key twice")
        return cast(dict[str, Any], dict(items))

    return plain


def _key(key: Any) -> str:
    if key is None:
        raise _Unstorable("must not have a key that is null")
    return str(key)
