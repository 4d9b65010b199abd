"""Building chunks from events."""

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from repo.columns.chunk import (
    EVENT_ID,
    BooleanValues,
    Chunk,
    Column,
    ColumnKey,
    Kind,
    Values,
    event_order,
    rows_or_none,
)
from repo.columns.json_decoder import decode
from repo.columns.values import integer_values, number_values, text_values

MAX_PATH_BYTES = 2_000
"""More does not fit into the unique index of paths, whose rows have at most 2,704 bytes."""

_KEY_BYTES = 8
"""Of each key, beside its text: its length, and padding."""
_MAX_NODES = 20_000
_PIECE_BYTES = 4_000_000
"""Text whose values are held as Python objects at one time; they may take 20 times the memory."""

Path = tuple[str, ...]


class EventRecord(NamedTuple):
    """An event to be written into a chunk."""

    time: int
    """Microseconds since 2000-01-01 UTC."""
    user: int
    """The user's ordinal; 0 for none."""
    name: int
    """The id of the event name."""
    xid: int
    """The transaction that inserted the event."""
    event_id: bytes
    """16 bytes."""
    properties: bytes | str
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events as arrays of equal length, with the meaning of the fields of `EventRecord`."""

    time: NDArray[np.int64]
    user: NDArray[np.uint32]
    name: NDArray[np.int32]
    xid: NDArray[np.int64]
    event_id: NDArray[np.void]
    properties: Sequence[bytes | str]


@dataclass(slots=True)
class PathLimit:
    """Admits registered paths, and as many new ones as the limit allows."""

    registered: set[Path]
    """Grows by the paths that are admitted."""
    limit: int
    new: list[Path] = field(default_factory=list)
    left_out: bool = False
    """Whether values of a path were left out."""

    def __call__(self, path: Path) -> bool:
        if path in self.registered:
            return True
        if len(self.registered) >= self.limit:
            self.left_out = True
            return False
        self.registered.add(path)
        self.new.append(path)
        return True


def admit_all(path: Path) -> bool:
    return True


def is_too_long(path: Path) -> bool:
    """Return whether values of a path are always left out."""
    return sum(map(_key_bytes, path)) > MAX_PATH_BYTES


def build_chunk(events: Sequence[EventRecord], admits: Callable[[Path], bool] = admit_all) -> Chunk:
    """Return the chunk of events in any order, with the values of the paths that are admitted.

    `admits` is called before a path gets its first value, in the order of the events.
    """
    time, user, name, xid, event_id, properties = zip(*events, strict=True) if events else [()] * 6
    batch = EventBatch(
        np.array(time, np.int64),
        np.array(user, np.uint32),
        np.array(name, np.int32),
        np.array(xid, np.int64),
        np.frombuffer(b"".join(event_id), EVENT_ID),
        properties,
    )
    return build_batch(batch, admits)


def build_batch(batch: EventBatch, admits: Callable[[Path], bool] = admit_all) -> Chunk:
    """Return the chunk of a batch in any order, as `build_chunk` does."""
    order = event_order(batch.time, batch.user, batch.event_id)
    builder = _PropertyBuilder(admits)
    with _without_garbage_collection():
        builder.add_events(batch.properties[position] for position in order.tolist())
        properties = builder.columns()
    return Chunk(
        time=batch.time[order],
        user=batch.user[order],
        name=batch.name[order],
        xid=batch.xid[order],
        event_id=batch.event_id[order],
        properties=properties,
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Decoded objects have no cycles, and searching them for some takes as long as decoding."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Appenders(NamedTuple):
    """The methods that add a value, and its row, to a column."""

    value: Callable[[Any], None]
    row: Callable[[int], None]


_ignore = deque[Any](maxlen=0).append
_NOWHERE = _Appenders(_ignore, _ignore)


class _Node:
    """A key of a path, with the columns of its values by their Python types."""

    __slots__ = ("appenders", "children", "key", "parent", "size")

    def __init__(self, key: str = "", parent: "_Node | None" = None) -> None:
        self.key = key
        self.parent = parent
        self.size: int = parent.size + _key_bytes(key) if parent else 0
        self.children: dict[str, _Node] = {}
        self.appenders: dict[type, _Appenders] = {type(None): _NOWHERE}

    def path(self) -> Path:
        keys, node = [], self
        while node.parent:
            keys.append(node.key)
            node = node.parent
        return tuple(reversed(keys))


class _PendingColumn:
    """Values of one column, the last of which are Python objects."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.rows: list[int] = []
        self._value_parts: list[Any] = []
        self._row_parts: list[NDArray[np.int32]] = []

    def pack(self, kind: Kind) -> None:
        """Turn Python objects into arrays, which need less memory."""
        if self.values:
            self._value_parts.append(_PACK[kind](self.values))
            self._row_parts.append(np.array(self.rows, np.int32))
            self.values.clear()
            self.rows.clear()

    def column(self, kind: Kind, count: int) -> Column:
        rows = np.concatenate(self._row_parts)
        return Column(_VALUES[kind](self._value_parts), rows_or_none(rows, count))


class _PropertyBuilder:
    """Collects the values of properties by path and kind."""

    def __init__(self, admits: Callable[[Path], bool]) -> None:
        self._admits = admits
        self._pending: dict[ColumnKey, _PendingColumn] = {}
        self._root = _Node()
        self._nodes = 0
        self._rows = 0

    def add_events(self, properties: Iterator[bytes | str]) -> None:
        """Add events in their order."""
        size = 0
        for text in properties:
            self._add_event(decode(text), self._rows)
            self._rows += 1
            size += len(text)
            if size > _PIECE_BYTES:
                self._pack()
                size = 0
        self._pack()

    def columns(self) -> dict[ColumnKey, Column]:
        return {
            key: pending.column(key.kind, self._rows)
            for key, pending in sorted(self._pending.items())
        }

    def _pack(self) -> None:
        for key, pending in self._pending.items():
            pending.pack(key.kind)

    def _add_event(self, properties: dict[str, Any], row: int) -> None:
        children = self._root.children
        for key, value in properties.items():
            node = children.get(key) or self._child(self._root, key)
            appenders = node.appenders.get(type(value))
            if appenders is None:
                self._add(node, value, row)
            else:
                appenders.value(value)
                appenders.row(row)
        if self._nodes > _MAX_NODES:
            self._root, self._nodes = _Node(), 0

    def _add(self, node: _Node, value: Any, row: int) -> None:
        """Add a value of any type; lists are flattened in their order."""
        values = [(node, value)]
        while values:
            node, value = values.pop()
            kind = type(value)
            if kind is list:
                values.extend((node, item) for item in reversed(value))
            elif kind is dict:
                values.extend((self._child(node, key), item) for key, item in value.items())
            else:
                appenders = node.appenders.get(kind) or self._open(node, kind)
                appenders.value(value)
                appenders.row(row)

    def _child(self, node: _Node, key: str) -> _Node:
        if (child := node.children.get(key)) is None:
            child = node.children[key] = _Node(key, node)
            self._nodes += 1
        return child

    def _open(self, node: _Node, kind: type) -> _Appenders:
        """Return where values of one type and path go, from now on."""
        appenders = node.appenders[kind] = self._appenders(node, _KINDS[kind])
        return appenders

    def _appenders(self, node: _Node, kind: Kind) -> _Appenders:
        if node.size > MAX_PATH_BYTES:
            return _NOWHERE
        key = ColumnKey(node.path(), kind)
        if key not in self._pending:
            if not self._admits(key.path):
                return _NOWHERE
            self._pending[key] = _PendingColumn()
        pending = self._pending[key]
        return _Appenders(pending.values.append, pending.rows.append)


def _key_bytes(key: str) -> int:
    return len(key.encode()) + _KEY_BYTES


def _pack_texts(texts: list[str]) -> pa.StringArray:
    return pa.array(texts, pa.string())


def _pack_numbers(numbers: list[int | bytes]) -> NDArray[np.int64] | pa.StringArray:
    if bytes not in map(type, numbers):
        try:
            return np.array(numbers, np.int64)
        except OverflowError:
            pass
    texts = [number if isinstance(number, bytes) else b"%d" % number for number in numbers]
    return pa.array(texts, pa.binary()).cast(pa.string())


def _pack_booleans(booleans: list[bool]) -> NDArray[np.bool_]:
    return np.array(booleans, np.bool_)


def _text_column(parts: list[pa.StringArray]) -> Values:
    return text_values(pa.concat_arrays(parts))


def _number_column(parts: list[NDArray[np.int64] | pa.StringArray]) -> Values:
    integers = [part for part in parts if isinstance(part, np.ndarray)]
    if len(integers) == len(parts):
        return integer_values(np.concatenate(integers))
    texts = [
        pa.array(part).cast(pa.string()) if isinstance(part, np.ndarray) else part for part in parts
    ]
    return number_values(pa.concat_arrays(texts))


def _boolean_column(parts: list[NDArray[np.bool_]]) -> Values:
    return BooleanValues(np.concatenate(parts))


_KINDS: dict[type, Kind] = {str: "text", int: "number", bytes: "number", bool: "boolean"}
_PACK: dict[Kind, Callable[[Any], Any]] = {
    "text": _pack_texts,
    "number": _pack_numbers,
    "boolean": _pack_booleans,
}
_VALUES: dict[Kind, Callable[[Any], Values]] = {
    "text": _text_column,
    "number": _number_column,
    "boolean": _boolean_column,
}
