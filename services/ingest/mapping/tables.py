"""Tables: rows with the same columns, whose values are read column by column."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol

from services.ingest.input_rows import RowOrigin
from services.ingest.json_paths import Path
from services.ingest.mapping.row_format import Row, json_string
from services.ingest.validation import Invalid

Tree = Mapping[str, Any]
"""Keys, each with the tree of keys in its object, or None if it is meant as a whole."""
Fragments = Sequence[str | None]
"""JSON texts of a column; None where a row has no such value."""

json_key = lru_cache(10_000)(json_string)


class Table(Protocol):
    """Rows with the same columns. A column of JSON is the path of a value.

    Where a value cannot be read by column, a method adds the position of its row to `odd`; where no
    value can, it raises what reading it raises. Such rows are mapped one by one.
    """

    is_strict: bool
    """Whether the JSON of all properties is certainly strict."""
    odd: set[int]

    @property
    def names(self) -> Sequence[str]:
        """The columns, or the keys of the rows, in their order."""

    def __len__(self) -> int: ...

    def has(self, path: Path) -> bool:
        """Whether the rows have a value, which may be null."""

    def values(self, path: Path) -> Sequence[Any]:
        """The Python values of a column."""

    def times(self, path: Path) -> Sequence[Any]:
        """The values of a column, of which times may be texts."""

    def texts(self, path: Path) -> Fragments:
        """The values of a column as they become properties."""

    def base_texts(self, path: Path) -> Fragments:
        """The objects of a column whose keys become properties."""

    def left_texts(self, path: Path, tree: Tree) -> Fragments:
        """The objects of a column without the values of a tree; None for those that get empty."""

    def canonical(self) -> Sequence[bytes]:
        """A text of each row that is the same in every file that holds the row."""

    def row(self, at: int) -> Row:
        """A row as it is mapped by itself."""


class Record(NamedTuple):
    """One row as read, before it is mapped."""

    number: int
    raw: Any
    """The row for the file of rejected rows; a line of JSON as bytes."""
    row: Row | Invalid


@dataclass(frozen=True)
class Records:
    """Consecutive rows as read; those with the same columns may be in tables."""

    origins: list[RowOrigin]
    singles: Mapping[int, Row | Invalid]
    """The rows in no table, by position."""
    tables: Sequence["PlacedTable"] = ()

    def row(self, at: int) -> Row | Invalid:
        """The row at a position."""
        if at in self.singles:
            return self.singles[at]
        table, row = self._places[at]
        return table.row(row)

    @cached_property
    def _places(self) -> Mapping[int, tuple[Table, int]]:
        """The tables of rows, and their positions in them, by the position of all rows."""
        return {
            at: (table, row) for positions, table in self.tables for row, at in enumerate(positions)
        }


def single_records(records: Iterable[Record]) -> Records:
    """Rows in no table, which are mapped one by one."""
    listed = list(records)
    return Records(
        [(record.number, record.raw) for record in listed],
        {at: record.row for at, record in enumerate(listed)},
    )


PlacedTable = tuple[Sequence[int], Table]
"""A table, and the positions of its rows in a block."""


def object_texts(members: Sequence[tuple[str, Fragments]], rows: int) -> list[str]:
    """The JSON objects of named texts, one per row, without those that are None."""
    keyed = [(json_key(name) + ":", texts) for name, texts in members]
    return joined_objects(keyed, rows, ",")


def joined_objects(
    members: Sequence[tuple[str, Fragments]], rows: int, separator: str
) -> list[str]:
    """The JSON objects of texts and the text before each, one per row, without those of None."""
    keys, columns = [key for key, _ in members], [texts for _, texts in members]
    if not columns:
        return ["{}"] * rows
    if not any(None in texts for texts in columns):
        template = "{" + separator.join(key.replace("%", "%%") + "%s" for key in keys) + "}"
        return list(map(template.__mod__, zip(*columns, strict=True)))
    named = [_named(key, texts) for key, texts in zip(keys, columns, strict=True)]
    return ["{" + separator.join(filter(None, row)) + "}" for row in zip(*named, strict=True)]


def _named(key: str, texts: Fragments) -> Fragments:
    return [None if text is None else key + text for text in texts]
