"""Decode the columns of a chunk, and check that readers can rely on them.

A row of `column_data` is an Arrow IPC stream that is compressed with zstd: one record batch of one
row, in which each array is a list. Fields are named `path_id.kind.part`.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from repo.verify.fingerprints import EVENT_ID, NO_ID, Hashes, Kind, text_hashes
from repo.verify.json_values import number_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMAT = 1
PACKED = (0, 0)
KINDS: tuple[Kind, ...] = ("text", "number", "boolean")

_FIELDS = {(0, 1): "time", (0, 2): "user", (0, 3): "name", (0, 4): "xid"}
_EVENT_ID = (0, 5)
_MAX_SCALE = 18
_EVENT_BYTES = 8 + 4 + 4 + 8 + 16
_CODE_BYTES = 4
_ROW_BYTES = 4

ColumnId = tuple[int, int]
"""`path_id` and `kind` of `column_data`."""


class BadColumn(Exception):
    """A column that cannot be read; the message says why."""


class Array(NamedTuple):
    """An array as it is stored, and its attributes."""

    values: Any
    attributes: Mapping[str, str]

    def integers(self) -> NDArray[np.int64]:
        """Return the integers, which may be stored as deltas."""
        integers: NDArray[np.int64] = self.values.to_numpy().astype(np.int64)
        if "first" in self.attributes:
            integers = integers.cumsum() + int(self.attributes["first"])
        return integers


Arrays = dict[str, Array]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """The values of one property."""

    kind: Kind
    rows: NDArray[np.int64]
    """The row of each value."""
    codes: NDArray[np.int64]
    """Positions in the dictionary, scaled numbers, or booleans."""
    dictionary: list[str] | None
    scale: int
    bytes: int
    """About the memory that readers need."""

    def hashes(self, selected: NDArray[np.bool_]) -> Hashes:
        """Return the hashes of some values."""
        codes = self.codes[selected]
        if self.kind == "boolean":
            return codes.astype(np.uint64)
        distinct, positions = np.unique(codes, return_inverse=True)
        return text_hashes(self.texts(distinct.tolist()))[positions]

    def texts(self, codes: Iterable[int]) -> Iterator[str]:
        """Yield the texts of codes; equal numbers have equal texts."""
        if self.dictionary is None:
            yield from (_scaled_text(number, self.scale) for number in codes)
        elif self.kind == "number":
            yield from (number_text(self.dictionary[code]) for code in codes)
        else:
            yield from (self.dictionary[code] for code in codes)

    def bounds_problems(self, events: int) -> Iterator[str]:
        """Yield what prevents reading the values of a chunk of so many events."""
        if len(self.rows) != len(self.codes):
            yield f"{len(self.rows)} rows of {len(self.codes)} values"
        if _is_outside(self.rows, events):
            yield f"rows beyond {events} events"
        if self.dictionary is not None and _is_outside(self.codes, len(self.dictionary)):
            yield "codes beyond its dictionary"

    def order_problems(self) -> Iterator[str]:
        """Yield what readers do not expect in values that can be read."""
        if (np.diff(self.rows) < 0).any():
            yield "rows that are not ascending"
        if self.dictionary is None:
            return
        if np.count_nonzero(np.bincount(self.codes, minlength=1)) < len(self.dictionary):
            yield "a dictionary with values that no event has"
        is_text = self.kind == "text"
        keys: list[Any] = self.dictionary if is_text else list(map(Decimal, self.dictionary))
        if not all(a < b for a, b in pairwise(keys)):
            yield "a dictionary that is not sorted"


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """All columns of a chunk."""

    time: NDArray[np.int64]
    user: NDArray[np.int64]
    name: NDArray[np.int64]
    xid: NDArray[np.int64]
    event_id: NDArray[np.void]
    columns: Mapping[ColumnId, StoredColumn]

    def memory_size(self) -> int:
        """Return about the number of bytes that readers need."""
        properties = sum(column.bytes for column in self.columns.values())
        return len(self.time) * _EVENT_BYTES + properties

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the order of events."""
        if (np.diff(self.time) < 0).any():
            yield "events that are not ordered by time"
        is_tied = (np.diff(self.time) == 0) & (np.diff(self.user) == 0) & (self.user[1:] != 0)
        ids = self.event_id.tobytes()
        for row in np.flatnonzero(is_tied).tolist():
            first, second = ids[row * 16 : row * 16 + 16], ids[row * 16 + 16 : row * 16 + 32]
            if NO_ID in (first, second) or first >= second:
                yield "events of one user and time that are not ordered by their ids"
                return


def decode_column(column: ColumnId, data: bytes) -> dict[ColumnId, Arrays]:
    """Return the arrays of a row of `column_data`. Raises: BadColumn."""
    try:
        arrays = _read(zstd.decompress(data))
    except (zstd.ZstdError, pa.ArrowException, OSError, ValueError, StopIteration) as exc:
        raise BadColumn(str(exc)) from exc
    if column != PACKED and arrays.keys() != {column}:
        raise BadColumn(f"it holds the columns {sorted(arrays)}")
    return arrays


def decode_chunk(arrays: Mapping[ColumnId, Arrays]) -> StoredChunk:
    """Return a chunk of the arrays of its columns. Raises: BadColumn."""
    try:
        fields = {name: arrays[key]["values"].integers() for key, name in _FIELDS.items()}
        events = len(fields["time"])
        columns = {
            key: _column(KINDS[key[1] - 1], parts, events)
            for key, parts in arrays.items()
            if key[0] != 0
        }
        ids = _event_ids(arrays[_EVENT_ID], events)
    except (LookupError, ValueError, TypeError, AttributeError, pa.ArrowException) as exc:
        raise BadColumn(f"{type(exc).__name__}: {exc}") from exc
    if any(len(array) != events for array in fields.values()):
        raise BadColumn("time, user, name and transaction differ in length")
    return StoredChunk(**fields, event_id=ids, columns=columns)


def _read(stream: bytes) -> dict[ColumnId, Arrays]:
    reader = pa.ipc.open_stream(stream)
    metadata = reader.schema.metadata or {}
    if metadata.get(b"format") != str(FORMAT).encode():
        raise BadColumn(f"its format is {metadata.get(b'format')!r}")
    batch = reader.read_next_batch()
    batch.validate(full=True)
    columns: dict[ColumnId, Arrays] = {}
    for position, field in enumerate(reader.schema):
        path_id, kind, part = field.name.split(".")
        attributes = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
        array = Array(batch.column(position).values, attributes)
        columns.setdefault((int(path_id), int(kind)), {})[part] = array
    return columns


def _column(kind: Kind, parts: Arrays, events: int) -> StoredColumn:
    values = parts["values"]
    rows = parts["rows"].integers() if "rows" in parts else np.arange(events, dtype=np.int64)
    scale, dictionary = 0, None
    if kind == "text":
        dictionary = parts["dictionary"].values.to_pylist()
    elif kind == "number" and "decimals" in parts:
        dictionary = parts["decimals"].values.to_pylist()
    elif kind == "number":
        scale = int(values.attributes["scale"])
        if not 0 <= scale <= _MAX_SCALE:
            raise BadColumn(f"its scale is {scale}")
    return StoredColumn(
        kind, rows, values.integers(), dictionary, scale, _memory_size(parts, dictionary)
    )


def _memory_size(parts: Arrays, dictionary: list[str] | None) -> int:
    values = parts["values"].values
    size = len(parts["rows"].values) * _ROW_BYTES if "rows" in parts else 0
    if dictionary is None:
        return size + int(values.nbytes)
    return size + len(values) * _CODE_BYTES + sum(len(text) + _CODE_BYTES for text in dictionary)


def _event_ids(parts: Arrays, events: int) -> NDArray[np.void]:
    ids = np.zeros(events, EVENT_ID)
    stored = b"".join(parts["values"].values.to_pylist())
    ids[parts["rows"].integers()] = np.frombuffer(stored, EVENT_ID)
    return ids


def _is_outside(positions: NDArray[np.int64], size: int) -> bool:
    return bool(len(positions)) and not 0 <= positions.min() <= positions.max() < size


def _scaled_text(number: int, scale: int) -> str:
    if not scale:
        return str(number)
    digits = str(abs(number)).rjust(scale + 1, "0")
    sign = "-" if number < 0 else ""
    return number_text(f"{sign}{digits[:-scale]}.{digits[-scale:]}")
