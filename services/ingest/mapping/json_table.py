"""Rows of JSON with the same keys as a table of their values."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import starmap
from typing import Any

import msgspec

from services.ingest.json_paths import Path
from services.ingest.mapping.row_format import (
    JSON,
    Row,
    decode,
    decode_raw,
    key_value_pairs,
    value_of,
)
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import Fragments, Tree, object_texts
from services.ingest.validation import Invalid, json_text

Shape = tuple[Any, ...]
"""The keys of an object, and for each branch the shape of its object, or None without one."""
Branches = Mapping[str, Any]
"""Keys of objects of which single values are used, each with its branches."""


class JsonTable:
    """Rows of one shape."""

    def __init__(
        self,
        rows: Sequence[Row],
        shape: Shape,
        values: Iterable[Sequence[msgspec.Raw]],
        branches: Branches,
        mapping: RowMapping,
    ) -> None:
        self._rows = rows
        self._keys: dict[Path, tuple[str, ...]] = {}
        paths = list(self._paths(shape, branches, ()))
        self._columns = dict(zip(paths, zip(*values, strict=True), strict=True))
        self._mapping = mapping
        self.names = shape[0]
        self._nulls = {"", *mapping.nulls}
        self.is_strict = True
        self.odd: set[int] = set()

    def _paths(self, shape: Shape, branches: Branches, above: Path) -> Iterable[Path]:
        """The paths of the columns, and by the way the keys of each object."""
        self._keys[above] = shape[0]
        for key in shape[0]:
            yield (*above, key)
        for (key, inner), inner_shape in zip(branches.items(), shape[1:], strict=True):
            if inner_shape is not None:
                yield from self._paths(inner_shape, inner, (*above, key))

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, path: Path) -> bool:
        """Whether all rows have this key."""
        return path in self._columns

    def values(self, path: Path) -> Sequence[Any]:
        """The Python values of a column."""
        raw = self._columns[path]
        try:
            values: list[Any] = decode(b"[" + b",".join(raw) + b"]")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            values = list(map(value_of, raw))
        return values

    def times(self, path: Path) -> Sequence[Any]:
        """The Python values of a column."""
        return self.values(path)

    def texts(self, path: Path) -> Fragments:
        """The JSON of a column as it is in the file."""
        if path in self._mapping.pairs:
            return list(starmap(self._object_of_pairs, enumerate(self.values(path))))
        texts = [str(raw, "utf-8") for raw in self._columns[path]]
        if not self._mapping.nulls:
            return texts
        nulls = self._mapping.nulls
        values = self.values(path)
        are_null = [isinstance(value, str) and value in nulls for value in values]
        return [None if is_null else text for text, is_null in zip(texts, are_null, strict=True)]

    def base_texts(self, path: Path) -> Fragments:
        """The objects of a column; rows in which it is another value are odd."""
        texts: list[str | None] = [str(raw, "utf-8") for raw in self._columns[path]]
        for at, text in enumerate(texts):
            if text == "null":
                texts[at] = None
            elif path in self._mapping.pairs and text and text.startswith("["):
                texts[at] = self._object_of_pairs(at, decode(text))
            elif text and text.startswith('"'):
                texts[at] = self._text_within(decode(text))
            elif not text or not text.startswith("{"):
                self.odd.add(at)
        return texts

    def _text_within(self, text: str) -> str | None:
        """JSON in a text, which is not checked with its line."""
        self.is_strict = False
        return None if text in self._nulls else text

    def left_texts(self, path: Path, tree: Tree) -> Fragments:
        """The objects of a column without the values of a tree; None for those that get empty."""
        if path not in self._keys:
            return [None] * len(self)
        members: list[tuple[str, Fragments]] = []
        for key in self._keys[path]:
            inner = (*path, key)
            if key not in tree:
                members.append((key, [str(raw, "utf-8") for raw in self._columns[inner]]))
            elif tree[key] is not None:
                members.append((key, self.left_texts(inner, tree[key])))
        texts = object_texts(members, len(self))
        return [None if text == "{}" else text for text in texts]

    def canonical(self) -> list[bytes]:
        """The rows with sorted keys."""
        return list(map(JSON.canonical, self._rows))

    def row(self, at: int) -> Row:
        """The values of a row by key."""
        return self._rows[at]

    def _object_of_pairs(self, at: int, value: Any) -> str | None:
        if isinstance(value, str) and value in self._mapping.nulls:
            return None
        try:
            return json_text(key_value_pairs(value) if isinstance(value, list) else value)
        except Invalid:
            self.odd.add(at)
            return None


def branches_of(paths: Iterable[Path]) -> Branches:
    """The keys whose objects have values at these paths."""
    branches: dict[str, Any] = {}
    for path in paths:
        level = branches
        for key in path[:-1]:
            level = level.setdefault(key, {})
    return branches


def json_tables(
    rows: Mapping[int, Row], branches: Branches, mapping: RowMapping
) -> list[tuple[list[int], JsonTable]]:
    """Tables of the rows that have the same keys, and the positions of their rows.

    Rows in which the value of a branch is neither an object nor null are in no table.
    """
    groups: dict[Shape, list[tuple[int, list[msgspec.Raw]]]] = {}
    for at, row in rows.items():
        values: list[msgspec.Raw] = []
        with suppress(msgspec.MsgspecError):  # a value that is not valid JSON after all
            if (shape := _shape(row, branches, values)) is not None:
                groups.setdefault(shape, []).append((at, values))
    return [
        (
            [at for at, _ in group],
            JsonTable(
                [rows[at] for at, _ in group],
                shape,
                [values for _, values in group],
                branches,
                mapping,
            ),
        )
        for shape, group in groups.items()
    ]


def _shape(row: Row, branches: Branches, values: list[msgspec.Raw]) -> Shape | None:
    """The shape of an object, whose values are added to `values`; None without a shape."""
    values += row.values()
    shape: list[Any] = [tuple(row)]
    for key, inner in branches.items():
        text = bytes(row.get(key, b"null"))
        if text == b"null":
            shape.append(None)
        elif text.startswith(b"{") and (inner_shape := _shape(decode_raw(text), inner, values)):
            shape.append(inner_shape)
        else:
            return None
    return tuple(shape)
