"""Collecting the values of properties by their paths and types."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from repo.columns.chunk import BooleanValues, Column, ColumnKey, Kind, Values, rows_or_none
from repo.columns.exact_numbers import number_values, scaled_values
from repo.columns.json_decoder import decode_lines
from repo.columns.values import text_values, united

MAX_PATH_BYTES = 2_000
"""Values of longer paths are left out, which bounds what a deeply nested event may register."""

Path = tuple[str, ...]
"""The keys that lead to a value."""

_BYTES_PER_KEY = 8
"""The bytes that an array of PostgreSQL needs for a key in addition to its text, at most."""
_PIECE_BYTES = 1_000_000
"""Text whose values are Python objects at one time; they may take 20 times the memory."""
_DECODED_BYTES = 100_000
"""Text of which whole objects exist at one time."""
_MAX_NODES = 20_000

_KINDS: dict[type, Kind] = {str: "text", int: "number", bytes: "number", bool: "boolean"}


def is_too_long(path: Path) -> bool:
    """Return whether values of a path are always left out."""
    return sum(map(_key_bytes, path)) > MAX_PATH_BYTES


class PropertyCollector:
    """Collects the values of the properties of events, whose paths `admits` admits."""

    def __init__(self, admits: Callable[[Path], bool]) -> None:
        self._admits = admits
        self._pending: dict[ColumnKey, _PendingColumn] = {}
        self._left_out = _PendingColumn()
        self._root = _Node((), 0, self._left_out)
        self._nodes = 0
        self._nested: deque[tuple[_Node, dict[str, Any]]] = deque()
        """Objects in the present event, each with the node of its path. Python would refuse to
        recurse as deep as events may be nested."""
        self._count = 0

    def add_events(self, properties: Iterable[bytes | str]) -> None:
        """Add the properties, as JSON, of events in their order."""
        size = 0
        for texts, length in _pieces(properties):
            for row, event in enumerate(decode_lines(texts), self._count):
                self._add_object(self._root, event, row)
                while self._nested:
                    self._add_object(*self._nested.popleft(), row)
                if self._nodes > _MAX_NODES:
                    self._root, self._nodes = _Node((), 0, self._left_out), 0
            self._count += len(texts)
            size += length
            if size > _PIECE_BYTES:
                self._pack()
                size = 0
        self._pack()

    def columns(self) -> dict[ColumnKey, Column]:
        """Return the columns, and forget the values."""
        return {key: self._pending.pop(key).column(self._count) for key in sorted(self._pending)}

    def _pack(self) -> None:
        for key, column in self._pending.items():
            column.pack(key.kind)
        self._left_out.clear()

    def _add_object(self, node: "_Node", properties: dict[str, Any], row: int) -> None:
        # Most of the time of building a chunk is spent in this loop.
        children = node.children
        for key, value in properties.items():
            kind = type(value)
            if kind is dict or kind is list:
                self._add(self._child(node, key), value, row)
                continue
            try:
                column = children[key].columns[kind]
            except KeyError:
                column = self._column(self._child(node, key), kind)
            column.values.append(value)
            column.rows.append(row)

    def _add(self, node: "_Node", value: Any, row: int) -> None:
        if type(value) is list:
            self._add_list(node, value, row)
        elif type(value) is dict:
            if node.size <= MAX_PATH_BYTES:
                self._nested.append((node, value))
        else:
            column = self._column(node, type(value))
            column.values.append(value)
            column.rows.append(row)

    def _add_list(self, node: "_Node", items: list[Any], row: int) -> None:
        types = set(map(type, items))
        if list in types:
            items = list(_flattened(items))
            types = set(map(type, items))
        if len(types) == 1 and dict not in types:
            column = self._column(node, types.pop())
            column.values.extend(items)
            column.rows.extend([row] * len(items))
        else:
            for item in items:
                self._add(node, item, row)

    def _child(self, node: "_Node", key: str) -> "_Node":
        if (child := node.children.get(key)) is None:
            size = node.size + _key_bytes(key)
            child = node.children[key] = _Node((*node.path, key), size, self._left_out)
            self._nodes += 1
        return child

    def _column(self, node: "_Node", kind: type) -> "_PendingColumn":
        """Return where values of one type and path go."""
        if (column := node.columns.get(kind)) is None:
            column = node.columns[kind] = self._open(node, _KINDS[kind])
        return column

    def _open(self, node: "_Node", kind: Kind) -> "_PendingColumn":
        if node.size > MAX_PATH_BYTES:
            return self._left_out
        key = ColumnKey(node.path, kind)
        if key not in self._pending:
            if not self._admits(key.path):
                return self._left_out
            self._pending[key] = _PendingColumn()
        return self._pending[key]


def _pieces(texts: Iterable[bytes | str]) -> Iterator[tuple[list[bytes | str], int]]:
    """Yield texts in lists of a limited length, with the length."""
    piece, length = list[bytes | str](), 0
    for text in texts:
        piece.append(text)
        length += len(text)
        if length > _DECODED_BYTES:
            yield piece, length
            piece, length = [], 0
    yield piece, length


class _PendingColumn:
    """Values of one column, the last of which are Python objects."""

    __slots__ = ("_row_parts", "_value_parts", "rows", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.rows: list[int] = []
        self._value_parts: list[Values] = []
        self._row_parts: list[NDArray[np.int32]] = []

    def clear(self) -> None:
        self.values.clear()
        self.rows.clear()

    def pack(self, kind: Kind) -> None:
        """Turn Python objects into arrays, which need less memory."""
        if self.values:
            self._value_parts.append(_VALUES[kind](self.values))
            self._row_parts.append(np.array(self.rows, np.int32))
            self.clear()

    def column(self, count: int) -> Column:
        return Column(
            united(self._value_parts), rows_or_none(np.concatenate(self._row_parts), count)
        )


class _Node:
    """A path, with the columns of its values by their Python types."""

    __slots__ = ("children", "columns", "path", "size")

    def __init__(self, path: Path, size: int, left_out: _PendingColumn) -> None:
        self.path = path
        self.size = size
        # Nodes do not refer to their parents: such cycles would need a garbage collector.
        self.children: dict[str, _Node] = {}
        self.columns: dict[type, _PendingColumn] = {type(None): left_out}


def _key_bytes(key: str) -> int:
    return len(key.encode()) + _BYTES_PER_KEY


def _flattened(items: list[Any]) -> Iterator[Any]:
    """Yield the items of nested lists in their order, without recursion."""
    iterators = [iter(items)]
    while iterators:
        for item in iterators[-1]:
            if type(item) is list:
                iterators.append(iter(item))
                break
            yield item
        else:
            iterators.pop()


def _texts(texts: list[str]) -> Values:
    return text_values(pa.array(texts, pa.string()))


def _numbers(numbers: list[Any]) -> Values:
    types = set(map(type, numbers))
    if bytes not in types:
        try:
            return scaled_values(np.array(numbers, np.int64), 0)
        except OverflowError:
            pass
    if int in types:
        numbers = [b"%d" % number if type(number) is int else number for number in numbers]
    return number_values(pa.array(numbers, pa.binary()).cast(pa.string()))


def _booleans(booleans: list[bool]) -> Values:
    return BooleanValues(np.array(booleans, np.bool_))


_VALUES: dict[Kind, Callable[[list[Any]], Values]] = {
    "text": _texts,
    "number": _numbers,
    "boolean": _booleans,
}
