"""Rows of Parquet as a table."""

from collections.abc import Callable, Container, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

from services.ingest.input_rows import Input, RowOrigin, UnreadRow
from services.ingest.json_paths import Path
from services.ingest.mapping.row_format import Row
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import (
    Fragments,
    PlacedTable,
    Records,
    Tree,
    joined_objects,
    single_records,
)
from services.ingest.mapping.times import ISO
from services.ingest.parquet import (
    batch_records,
    column_values,
    in_microseconds,
    is_pair,
    parquet_batches,
)
from services.ingest.parquet_json import (
    ColumnJson,
    NoColumnJson,
    ascii_key,
    is_text,
    json_of_array,
    json_of_values,
    scalar_values,
)
from services.ingest.validation import Invalid

_Result = TypeVar("_Result")


def parquet_tables(
    file: Input, mapping: RowMapping, max_rows: int, *, by_column: bool
) -> Iterator[Records]:
    """The rows, at most `max_rows` at a time, as tables if they can be mapped by column.

    Raises: UnreadableInput, TruncatedInput.
    """
    for number, batch in parquet_batches(file, max_rows):
        ignored = frozenset(filter(mapping.ignores, batch.schema.names))
        table = ParquetTable(batch, mapping)
        if by_column and table.is_readable(ignored):
            rows = range(batch.num_rows)
            origins: list[RowOrigin] = [(number + at, UnreadRow(table.cells, at)) for at in rows]
            tables: list[PlacedTable] = [(rows, table)] if rows else []
            yield Records(origins, {}, tables)
        else:
            yield single_records(batch_records(number, batch, ignored))


class ParquetTable:
    """The rows of a batch."""

    def __init__(self, batch: Any, mapping: RowMapping) -> None:
        self.names: list[str] = batch.schema.names
        self._columns = {
            name: _Column(array) for name, array in zip(self.names, batch.columns, strict=True)
        }
        self._size: int = batch.num_rows
        self._mapping = mapping
        self._nulls = {None, "", *mapping.nulls}
        self.is_strict = True
        self.odd: set[int] = set()

    def __len__(self) -> int:
        return self._size

    def is_readable(self, ignored: Container[str]) -> bool:
        """Whether all values can be read. Others are found by reading them one by one."""
        return all(
            column.is_readable() for name, column in self._columns.items() if name not in ignored
        )

    def has(self, path: Path) -> bool:
        """Whether there is such a column."""
        return len(path) == 1 and path[0] in self._columns

    def values(self, path: Path) -> Sequence[Any]:
        """The Python values of a column."""
        return self._columns[path[0]].values

    def times(self, path: Path) -> Sequence[Any]:
        """The Python values of a column, or texts of its times."""
        column = self._columns[path[0]]
        return column.time_texts() if self._mapping.reading is ISO else column.values

    def texts(self, path: Path) -> Fragments:
        """The JSON of a column; rows whose values are no JSON are odd."""
        column = self._columns[path[0]]
        if path in self._mapping.pairs and column.is_other_list:
            raise TypeError("lists of pairs of another type")
        self.odd |= column.without_json
        texts = column.json.plain
        if column.is_nested or self._nulls.isdisjoint(column.values):
            return texts
        return [
            None if value in self._nulls else text
            for value, text in zip(column.values, texts, strict=True)
        ]

    def base_texts(self, path: Path) -> Fragments:
        """The objects of a column, which may be JSON in a text."""
        column = self._columns[path[0]]
        if not column.is_text:
            return self.texts(path)
        self.is_strict = False
        return [None if value in self._nulls else value for value in column.values]

    def left_texts(self, path: Path, tree: Tree) -> Fragments:
        """Raises: TypeError, since only whole columns are used."""
        raise TypeError("only whole columns are used")

    def canonical(self) -> list[bytes]:
        """The values that are not null, in the order of their columns' names."""
        members = [
            (ascii_key(name), self._columns[name].json.canonical) for name in sorted(self.names)
        ]
        return [text.encode() for text in joined_objects(members, len(self), ", ")]

    def row(self, at: int) -> Row:
        """The values of a row by column."""
        return dict(zip(self.names, self.cells(at), strict=True))

    def cells(self, at: int) -> tuple[Any, ...]:
        """The values of a row."""
        return tuple(
            column_values(column.array.slice(at, 1))[0] for column in self._columns.values()
        )


class _Column:
    """A column of a batch."""

    def __init__(self, array: Any) -> None:
        from pyarrow import types

        self.array = array
        kind = in_microseconds(array.type)
        plain = array if kind == array.type else array.cast(kind, safe=False)
        self._plain = plain.dictionary_decode() if types.is_dictionary(kind) else plain
        self.is_text = is_text(self._plain.type)
        self.is_nested = bool(types.is_nested(kind))
        self._is_time = bool(types.is_timestamp(kind))
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        self.is_other_list = bool(is_list) and not is_pair(kind.value_type)

    @cached_property
    def values(self) -> Sequence[Any]:
        """The Python values; an invalid one is Invalid."""
        values = _result_of(scalar_values, self._plain)
        return column_values(self.array) if values is None else values

    @cached_property
    def json(self) -> ColumnJson:
        """The JSON of the values."""
        return self._fast_json or json_of_values(self.values)

    @cached_property
    def _fast_json(self) -> ColumnJson | None:
        return _result_of(json_of_array, self._plain)

    @cached_property
    def without_json(self) -> set[int]:
        """The rows whose values are no JSON."""
        if self._fast_json is not None:
            return set()
        pairs = zip(self.values, self.json.plain, strict=True)
        return {at for at, (value, text) in enumerate(pairs) if text is None and value is not None}

    def is_readable(self) -> bool:
        """Whether all values can be read."""
        if self.is_nested and self._fast_json is not None:
            return True
        if self._is_time and _result_of(_are_readable, self._plain):
            return True
        return not any(isinstance(value, Invalid) for value in self.values)

    def time_texts(self) -> Sequence[Any]:
        """The values, of which times are texts."""
        import pyarrow

        if not self._is_time:
            return self.values
        zone = "UTC" if self._plain.type.tz else None
        times = self._plain.cast(pyarrow.timestamp("us", zone))
        texts: list[str | None] = times.cast(pyarrow.string()).to_pylist()
        return texts


def _are_readable(times: Any) -> bool:
    """Return True. Raises: ValueError if a datetime cannot hold one of the times."""
    from pyarrow import compute

    limits = compute.min_max(times)
    limits["min"].as_py(), limits["max"].as_py()
    return True


def _result_of(convert: Callable[[Any], _Result | None], array: Any) -> _Result | None:
    """The result for an array; None where its values have to be read one by one."""
    import pyarrow

    try:
        return convert(array)
    except (NoColumnJson, ValueError, OverflowError, TypeError, pyarrow.ArrowException):
        return None
