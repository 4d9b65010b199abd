"""Rows of JSON with the same keys as a table of their values."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any

import msgspec

from services.ingest.json_paths import Path
from services.ingest.mapping.row_format import (
    JSON,
    Row,
    decode,
    encode,
    key_value_pairs,
    value_of,
)
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import Fragments, Tree, object_texts
from services.ingest.validation import Invalid, json_text

Levels = Mapping[Path, Sequence[Row | None]]
"""The objects at the paths of some rows; None for null, and where a row has none."""

_NULL = msgspec.Raw(b"null")
_decode_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None]).decode


class JsonTable:
    """Rows of one shape."""

    def __init__(self, levels: Levels, mapping: RowMapping) -> None:
        """The objects of one path have the same keys in all rows, or are None in all rows."""
        self._rows = [row or {} for row in levels[()]]
        self._keys: dict[Path, tuple[str, ...]] = {}
        self._columns: dict[Path, Sequence[msgspec.Raw]] = {}
        for path, objects in levels.items():
            if objects[0] is not None:
                self._keys[path] = tuple(objects[0])
                columns = zip(*[each.values() for each in objects if each is not None], strict=True)
                for key, values in zip(objects[0], columns, strict=True):
                    self._columns[(*path, key)] = values
        self._mapping = mapping
        self.names = self._keys[()]
        self._nulls = {"", *mapping.nulls}
        self.is_strict = True
        self.odd: set[int] = set()

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
            if not isinstance(value, list):
                return json_text(value)
            return encode(key_value_pairs(value)).decode()
        except (Invalid, OverflowError):
            self.odd.add(at)
            return None


def branches_of(paths: Iterable[Path]) -> list[Path]:
    """The paths of the objects that have values at these paths, outer ones first."""
    branches = {path[:depth] for path in paths for depth in range(1, len(path))}
    return sorted(branches, key=len)


def json_tables(
    rows: Mapping[int, Row], branches: Sequence[Path], mapping: RowMapping
) -> list[tuple[list[int], JsonTable]]:
    """Tables of the rows that have the same keys, and the positions of their rows.

    Rows in which the value at a branch is neither an object nor null are in no table.
    """
    try:
        levels = _levels(list(rows.values()), branches)
    except msgspec.MsgspecError:
        rows = {at: row for at, row in rows.items() if _has_objects(row, branches)}
        levels = _levels(list(rows.values()), branches)
    shapes = zip(
        *[[None if row is None else tuple(row) for row in level] for level in levels.values()],
        strict=True,
    )
    groups: dict[Any, list[int]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(number)
    positions = list(rows)
    return [
        ([positions[number] for number in group], JsonTable(_take(levels, group), mapping))
        for group in groups.values()
    ]


def _levels(rows: Sequence[Row], branches: Sequence[Path]) -> Levels:
    """Raises: MsgspecError, if a value at a branch is neither an object nor null."""
    levels: dict[Path, Sequence[Row | None]] = {(): rows}
    for path in branches:
        raw = [row.get(path[-1], _NULL) if row else _NULL for row in levels[path[:-1]]]
        levels[path] = _decode_objects(b"[" + b",".join(raw) + b"]")
    return levels


def _has_objects(row: Row, branches: Sequence[Path]) -> bool:
    try:
        _levels([row], branches)
    except msgspec.MsgspecError:
        return False
    return True


def _take(levels: Levels, rows: Sequence[int]) -> Levels:
    """The objects of these rows."""
    if len(rows) == len(levels[()]):
        return levels
    return {path: [level[row] for row in rows] for path, level in levels.items()}
