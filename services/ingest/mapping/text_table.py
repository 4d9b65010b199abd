"""Rows of CSV and access logs as a table: all values are texts."""

from collections.abc import Iterable, Sequence
from typing import Any

from services.ingest.json_paths import Path
from services.ingest.mapping.cell_types import JSON_VALUE, TEXT, json_strings
from services.ingest.mapping.row_format import Row
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import Fragments, PlacedTable, Records, Tree, object_texts
from services.ingest.validation import Invalid


class TextTable:
    """Rows of cells; an empty cell is no value."""

    def __init__(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], mapping: RowMapping
    ) -> None:
        self._columns = _columns(header, rows)
        self._types = mapping.texts
        self._nulls = {"", *mapping.nulls}
        self._size = len(rows)
        self.names = list(self._columns)
        self.is_strict = mapping.base is None and JSON_VALUE not in mapping.texts.values()
        self.odd: set[int] = set()

    def __len__(self) -> int:
        return self._size

    def has(self, path: Path) -> bool:
        """Whether there is such a column."""
        return len(path) == 1 and path[0] in self._columns

    def values(self, path: Path) -> Sequence[str]:
        """The cells of a column."""
        return self._columns[path[0]]

    def times(self, path: Path) -> Sequence[str]:
        """The cells of a column."""
        return self.values(path)

    def texts(self, path: Path) -> Fragments:
        """The JSON of the cells of a column, by its type."""
        cells, kind = self.values(path), self._types.get(path[0], TEXT)
        if self._nulls.isdisjoint(cells):
            return kind.texts(cells)
        texts = iter(kind.texts([cell for cell in cells if cell not in self._nulls]))
        return [None if cell in self._nulls else next(texts) for cell in cells]

    def base_texts(self, path: Path) -> Fragments:
        """The cells of a column of JSON."""
        return [None if cell in self._nulls else cell for cell in self.values(path)]

    def left_texts(self, path: Path, tree: Tree) -> Fragments:
        """Raises: TypeError, since cells are no objects."""
        raise TypeError("cells are no objects")

    def canonical(self) -> list[bytes]:
        """The cells that are not empty as JSON, in the order of their columns' names."""
        members = [(name, _strings(self._columns[name])) for name in sorted(self._columns)]
        return [text.encode() for text in object_texts(members, len(self))]

    def row(self, at: int) -> Row:
        """The cells of a row by column."""
        return {name: cells[at] for name, cells in self._columns.items()}


def text_records(
    header: Sequence[str],
    rows: Iterable[tuple[int, Any, Sequence[str] | Invalid]],
    mapping: RowMapping,
) -> Records:
    """Rows with their numbers, as they were read, and their cells, as one table."""
    listed = list(rows)
    invalid = {at: cells for at, (*_, cells) in enumerate(listed) if isinstance(cells, Invalid)}
    valid = [cells for *_, cells in listed if not isinstance(cells, Invalid)]
    positions = [at for at in range(len(listed)) if at not in invalid]
    table = TextTable(header, valid, mapping) if valid else None
    tables: list[PlacedTable] = [(positions, table)] if table else []
    return Records([(number, raw) for number, raw, _ in listed], invalid, tables)


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    """The cells by column; those without a name are one column."""
    columns: dict[str, Sequence[str]] = dict(zip(header, zip(*rows, strict=True), strict=True))
    if "" in columns:
        unnamed = [at for at, name in enumerate(header) if not name]
        columns[""] = [" ".join(cell for at in unnamed if (cell := row[at])) for row in rows]
    return columns


def _strings(cells: Sequence[str]) -> Fragments:
    if "" not in cells:
        return json_strings(cells)
    texts = iter(json_strings([cell for cell in cells if cell]))
    return [next(texts) if cell else None for cell in cells]
