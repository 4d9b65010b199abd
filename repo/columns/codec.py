"""Columns as bytes: compressed for tables, and uncompressed for files that are mapped into memory.

Both are a stream of Apache Arrow IPC with one record batch of one row. Each array is a list in it,
since the arrays of columns differ in length. Tables store the stream as a zstd frame, whose
checksum detects damage.
"""

import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
    DecimalNumbers,
    Kind,
    ScaledNumbers,
    TextValues,
    Values,
)
from repo.columns.tied_events import has_id
from repo.columns.values import count_values

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMAT = 1
"""Changes when older code could not read what is written."""

PACKED_EVENTS = 4_096
"""Smaller chunks are one row of the table: opening a column takes longer than decoding it."""

FIELDS = ("time", "user", "name", "xid", "event_id")
KINDS: tuple[Kind, ...] = ("text", "number", "boolean")

_TYPES: dict[str, Any] = {"time": np.int64, "user": np.uint32, "name": np.int32, "xid": np.int64}
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
_ZSTD: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}
_FORMAT = {"format": str(FORMAT)}

Stored = Column | NDArray[Any]
"""A column of a property, or a field of events."""


class StoredKey(NamedTuple):
    """A column of a chunk, as in the table `column_data`."""

    path_id: int
    """0 for the fields of events."""
    kind: int
    """From 1, in the order of KINDS or FIELDS."""


PACKED = StoredKey(0, 0)
"""All columns of a small chunk."""


class CorruptColumn(Exception):
    """Bytes that are no columns, or have another format."""


def field_key(name: str) -> StoredKey:
    return StoredKey(0, FIELDS.index(name) + 1)


def property_key(path_id: int, kind: Kind) -> StoredKey:
    return StoredKey(path_id, KINDS.index(kind) + 1)


def encode_chunk(chunk: Chunk, path_ids: Mapping[tuple[str, ...], int]) -> dict[StoredKey, bytes]:
    """Return the columns of a chunk as the table stores them; a small chunk has one entry.

    `path_ids` has the paths of all columns. Event ids that are zeros are not stored.
    """
    columns = stored_columns(chunk, path_ids)
    if len(chunk) < PACKED_EVENTS:
        return {PACKED: encode(columns)}
    return {key: encode({key: column}) for key, column in columns.items()}


def decode_chunk(stored: Mapping[StoredKey, bytes], paths: Mapping[int, tuple[str, ...]]) -> Chunk:
    """Return the chunk that `encode_chunk` encoded; raise CorruptColumn if it is none."""
    columns = {key: each for data in stored.values() for key, each in decode(data).items()}
    return chunk_of(columns, paths)


def stored_columns(
    chunk: Chunk, path_ids: Mapping[tuple[str, ...], int]
) -> dict[StoredKey, Stored]:
    """Return the fields and columns of a chunk by their keys."""
    fields = {field_key(name): getattr(chunk, name) for name in FIELDS}
    return fields | {
        property_key(path_ids[key.path], key.kind): column
        for key, column in chunk.properties.items()
    }


def chunk_of(columns: Mapping[StoredKey, Stored], paths: Mapping[int, tuple[str, ...]]) -> Chunk:
    """Return the chunk of all fields, and columns; raise CorruptColumn if they do not match."""
    try:
        fields: dict[str, Any] = {name: columns[field_key(name)] for name in FIELDS}
        properties = {
            ColumnKey(paths[key.path_id], KINDS[key.kind - 1]): column
            for key, column in columns.items()
            if isinstance(column, Column)
        }
    except LookupError as exc:
        raise CorruptColumn(f"the column {exc} is missing") from None
    chunk = Chunk(**fields, properties=dict(sorted(properties.items())))
    if any(len(array) != len(chunk) for array in fields.values()):
        raise CorruptColumn("the fields of events differ in length")
    if not all(_fits(column, len(chunk)) for column in properties.values()):
        raise CorruptColumn("a column has more rows than the chunk has events")
    return chunk


def encode(columns: Mapping[StoredKey, Stored]) -> bytes:
    """Return columns as compressed bytes."""
    parts = {key: _compact_parts(key, column) for key, column in columns.items()}
    # Arrow's own compression, of each buffer, takes ten times as long for small chunks.
    return zstd.compress(_write(parts), options=_ZSTD)


def decode(
    data: bytes | memoryview, keys: Container[StoredKey] | None = None
) -> dict[StoredKey, Stored]:
    """Return the columns of compressed bytes, or those of them that are in `keys`.

    Raise CorruptColumn if the bytes are not what `encode` returned.
    """
    try:
        stream = zstd.decompress(data)
    except zstd.ZstdError as exc:
        raise CorruptColumn(str(exc)) from None
    return _decode(pa.py_buffer(stream), keys)


def encode_mapped(columns: Mapping[StoredKey, Stored]) -> pa.Buffer:
    """Return columns as the content of a file for `open_mapped`."""
    return _write({key: _plain_parts(key, column) for key, column in columns.items()})


def open_mapped(file: Path) -> dict[StoredKey, Stored]:
    """Return the columns of a file as read-only arrays that are mapped into memory.

    They stay valid after the file is deleted. Raise CorruptColumn if the file is damaged, and
    OSError if it cannot be opened.
    """
    with file.open("rb") as opened:
        if not opened.read(1):
            raise CorruptColumn("the file is empty")
    with pa.memory_map(str(file)) as mapped:
        return _decode(mapped.read_buffer(), None)


@dataclass(frozen=True, slots=True)
class _Part:
    """An array, and what is needed to compute the values of a column from it."""

    array: Any
    attributes: Mapping[str, str] = field(default_factory=dict)


_Parts = dict[str, _Part]


def _compact_parts(key: StoredKey, column: Stored) -> _Parts:
    """Return the smallest arrays for a column."""
    if not isinstance(column, Column):
        return _compact_field(FIELDS[key.kind - 1], column)
    parts = _value_parts(column.values, _smallest)
    return parts if column.rows is None else {**parts, "rows": _deltas(column.rows)}


def _compact_field(name: str, array: NDArray[Any]) -> _Parts:
    if name == "event_id":
        return _id_parts(array)
    return {"values": _deltas(array) if name in ("time", "xid") else _smallest(array)}


def _plain_parts(key: StoredKey, column: Stored) -> _Parts:
    """Return arrays for a column that need no computation."""
    if not isinstance(column, Column):
        is_id = FIELDS[key.kind - 1] == "event_id"
        return _id_parts(column) if is_id else {"values": _plain(column)}
    parts = _value_parts(column.values, _plain)
    return parts if column.rows is None else {**parts, "rows": _plain(column.rows)}


def _value_parts(values: Values, encode_integers: Any) -> _Parts:
    match values:
        case TextValues(codes, dictionary):
            parts = {"dictionary": _Part(dictionary)}
            return {"values": encode_integers(codes), **parts}
        case DecimalNumbers(codes, dictionary):
            parts = {"decimals": _Part(dictionary)}
            return {"values": encode_integers(codes), **parts}
        case ScaledNumbers(scaled, scale):
            return {"values": _Part(pa.array(scaled), {"scale": str(scale)})}
        case BooleanValues(booleans):
            # One byte each, so that numpy can use them in place; zstd makes bits of them.
            return {"values": _Part(pa.array(booleans.view(np.uint8)), {"boolean": "1"})}


def _id_parts(ids: NDArray[np.void]) -> _Parts:
    """Return the ids that are not zero, and their rows."""
    rows = np.flatnonzero(has_id(ids)).astype(np.int32)
    stored = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(rows), [None, pa.py_buffer(np.ascontiguousarray(ids[rows]))]
    )
    return {"values": _Part(stored, {"events": str(len(ids))}), "rows": _deltas(rows)}


def _plain(integers: NDArray[Any]) -> _Part:
    return _Part(pa.array(integers))


def _smallest(integers: NDArray[Any]) -> _Part:
    low, high = integers.min(initial=0), integers.max(initial=0)
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return _Part(pa.array(integers.astype(kind)))
    return _Part(pa.array(integers))


def _deltas(integers: NDArray[Any]) -> _Part:
    """Return the differences to the previous values; they may overflow, as their sums then do."""
    values = integers.astype(np.int64)
    first = int(values[0]) if len(values) else 0
    deltas = _smallest(np.diff(values, prepend=values[:1]))
    return _Part(deltas.array, {"first": str(first)})


def _write(columns: Mapping[StoredKey, _Parts]) -> pa.Buffer:
    fields, lists = [], []
    for key, parts in columns.items():
        for name, part in parts.items():
            offsets = pa.array([0, len(part.array)], pa.int32())
            lists.append(pa.ListArray.from_arrays(offsets, part.array))
            full_name = f"{key.path_id}.{key.kind}.{name}"
            fields.append(pa.field(full_name, lists[-1].type, metadata=part.attributes))
    batch = pa.record_batch(lists, pa.schema(fields, metadata=_FORMAT))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _decode(stream: pa.Buffer, keys: Container[StoredKey] | None) -> dict[StoredKey, Stored]:
    try:
        return {
            key: _column(key, parts)
            for key, parts in _read(stream).items()
            if keys is None or key in keys
        }
    except (pa.ArrowException, OSError, LookupError, ValueError, OverflowError) as exc:
        raise CorruptColumn(str(exc)) from exc


def _read(stream: pa.Buffer) -> dict[StoredKey, _Parts]:
    reader = pa.ipc.open_stream(stream)
    found = reader.schema.metadata or {}
    if found.get(b"format") != _FORMAT["format"].encode():
        raise CorruptColumn(f"the format is {found.get(b'format')!r}, not {FORMAT}")
    batch = reader.read_next_batch()
    batch.validate()
    columns: dict[StoredKey, _Parts] = {}
    for position, each in enumerate(reader.schema):
        path_id, kind, name = each.name.split(".")
        key = StoredKey(int(path_id), int(kind))
        attributes = {k.decode(): v.decode() for k, v in (each.metadata or {}).items()}
        columns.setdefault(key, {})[name] = _Part(batch.column(position).values, attributes)
    return columns


def _column(key: StoredKey, parts: _Parts) -> Stored:
    if key.path_id == 0:
        name = FIELDS[key.kind - 1]
        return _ids(parts) if name == "event_id" else _integers(parts["values"], _TYPES[name])
    rows = _integers(parts["rows"], np.int32) if "rows" in parts else None
    return Column(_values(parts), rows)


def _values(parts: _Parts) -> Values:
    part = parts["values"]
    if "dictionary" in parts:
        # Codes keep their stored size, so that filters read a quarter or half of the memory.
        return TextValues(part.array.to_numpy(), parts["dictionary"].array)
    if "decimals" in parts:
        return DecimalNumbers(_integers(part, np.int32), parts["decimals"].array)
    if "boolean" in part.attributes:
        return BooleanValues(part.array.to_numpy().view(np.bool_))
    return ScaledNumbers(part.array.to_numpy(), int(part.attributes["scale"]))


def _ids(parts: _Parts) -> NDArray[np.void]:
    part = parts["values"]
    ids = np.zeros(int(part.attributes["events"]), EVENT_ID)
    stored = np.frombuffer(part.array.buffers()[1] or b"", EVENT_ID)[: len(part.array)]
    ids[_integers(parts["rows"], np.intp)] = stored
    return ids


def _integers(part: _Part, kind: Any) -> NDArray[Any]:
    """Return integers, without a copy if they have the type already."""
    array: NDArray[Any] = part.array.to_numpy()
    if "first" in part.attributes:
        array = array.cumsum(dtype=np.int64)
        array += int(part.attributes["first"])
    return array.astype(kind, copy=False)


def _fits(column: Column, events: int) -> bool:
    """Return whether the rows of a column are rows of so many events, one for each value."""
    count = count_values(column.values)
    if column.rows is None:
        return count == events
    return len(column.rows) == count and (not count or 0 <= column.rows[-1] < events)
