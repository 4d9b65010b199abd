"""Cache of opened columns: in memory, and behind it in a folder that worker processes share.

The files of the folder hold columns without compression and are mapped into memory, so that workers
share their pages. Any file may be removed at any time: its columns are read from PostgreSQL again.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import NamedTuple

from common.metrics import COLUMN_CACHE_BYTES, COLUMN_CACHE_COLUMNS
from config.database import Cursor
from repo.columns.chunk import (
    BooleanValues,
    Column,
    DecimalNumbers,
    ScaledNumbers,
    TextValues,
    Values,
)
from repo.columns.chunk_table import read_chunk_ids, read_columns, read_version
from repo.columns.codec import (
    PACKED,
    CorruptColumn,
    Stored,
    StoredKey,
    decode,
    encode_mapped,
    open_mapped,
)

_DEFAULT_BYTES = 256 * 2**20
_MAX_PENDING_BYTES = 64 * 2**20  # compressed bytes that wait to be decoded
_READ_CHUNKS = 8  # chunks read by one statement
_OVERHEAD = 2_000  # bytes of an opened column in addition to its arrays
# The folder is measured again whenever a process has written this part of the bound.
_MEASURE_PART = 32
_SUFFIX, _PARTIAL_SUFFIX = ".arrow", ".partial"
_MAX_WRITE_S = 60  # no file is written for longer

OpenedColumns = Mapping[StoredKey, Stored | None]
"""Columns of a chunk; None for those that it lacks."""


class ChunkKey(NamedTuple):
    """A chunk; `memory_key` identifies the database and the generation of its columns."""

    memory_key: str
    chunk_id: int


class LiveChunks(NamedTuple):
    """All chunks of the current generation, as one snapshot sees them."""

    memory_key: str
    version: int
    """Grows whenever chunks change."""
    chunk_ids: frozenset[int]

    def have(self, key: ChunkKey) -> bool:
        return key.memory_key == self.memory_key and key.chunk_id in self.chunk_ids


NO_CHUNKS = LiveChunks("", -1, frozenset())


def read_live_chunks(
    cur: Cursor, generation: int, memory_key: str, previous: LiveChunks
) -> LiveChunks:
    """Return the chunks of a generation; those that were read before if nothing has changed."""
    version = read_version(cur, generation)
    if (memory_key, version) == (previous.memory_key, previous.version):
        return previous
    return LiveChunks(memory_key, version, frozenset(read_chunk_ids(cur, generation)))


@dataclass(slots=True)
class _Entry:
    """The cached columns of a chunk, replaced as a whole when columns are added."""

    columns: OpenedColumns = field(default_factory=dict)
    size: int = 0

    def lacks(self, keys: Iterable[StoredKey]) -> list[StoredKey]:
        return [] if PACKED in self.columns else [key for key in keys if key not in self.columns]


class ColumnCache:
    """A bounded cache of columns by chunk, shared by the threads of a process."""

    def __init__(self, max_bytes: int = _DEFAULT_BYTES, *, is_measured: bool = True) -> None:
        """`is_measured`: it is the cache of the process, which metrics are about."""
        self.is_measured = is_measured
        self._max_bytes = max_bytes
        self._processes = 1
        self._folder: ColumnFolder | None = None
        self._lock = threading.Lock()
        self._entries: OrderedDict[ChunkKey, _Entry] = OrderedDict()
        self._size = 0
        self._live: LiveChunks | None = None

    def __len__(self) -> int:
        """Return the number of chunks with cached columns."""
        return len(self._entries)

    def resize(self, max_bytes: int, processes: int = 1) -> None:
        """Set the bound in bytes of all processes together."""
        with self._lock:
            self._max_bytes, self._processes = max_bytes, processes
            self._evict()

    def share(self, folder: "ColumnFolder | None") -> None:
        """Forget all columns, and use the folder from now on; None for no folder."""
        with self._lock:
            self._folder = folder
            self._entries.clear()
            self._size, self._live = 0, None

    def look_up(
        self, key: ChunkKey, keys: Collection[StoredKey], version: int
    ) -> tuple[OpenedColumns, list[StoredKey]]:
        """Return the cached columns of a chunk, and those that must be read from PostgreSQL.

        `version` is that of the columns in the snapshot.
        """
        with self._lock:
            entry = self._entries.get(key, _Entry())
            if key in self._entries:
                self._entries.move_to_end(key)
        missing = entry.lacks(keys)
        folder = self._folder
        if missing and folder and (files := folder.open(key, [*missing, PACKED])):
            entry = self._put(key, files, version, _bytes_of(files))
            missing = entry.lacks(keys)
        return entry.columns, missing

    def add(
        self,
        key: ChunkKey,
        keys: Collection[StoredKey],
        stored: Mapping[StoredKey, bytes | memoryview],
        version: int,
    ) -> OpenedColumns:
        """Decode and cache columns of a chunk that were read, and return them.

        `keys` are the columns that were requested: the chunk has no others of them.

        Raises: CorruptColumn.
        """
        # Added at once, so that the chunk is evicted as a whole.
        read: dict[StoredKey, Stored | None] = dict.fromkeys(keys)
        size = 0
        for name, data in stored.items():
            columns = decode(data)
            files = self._write(key, name, columns, version)
            # Other processes may hold the same columns, if these are in no file.
            size += _bytes_of(columns) * (1 if files else self._processes)
            read |= files or columns
            if name == PACKED:
                read[PACKED] = None
        self._put(key, read, version, size)
        return read

    def keep(self, live: LiveChunks) -> None:
        """Forget all chunks but these, here and in the folder."""
        with self._lock:
            self._live = live
            for key in [key for key in self._entries if not live.have(key)]:
                self._size -= self._entries.pop(key).size
            self._publish()
        if self._folder:
            self._folder.keep(live)

    def _write(
        self, key: ChunkKey, name: StoredKey, columns: Mapping[StoredKey, Stored], version: int
    ) -> Mapping[StoredKey, Stored] | None:
        """Write columns to a file, and return them from there; None without a file."""
        folder = self._folder
        if folder is None or not self._may_cache(key, version):
            return None
        files = folder.write(key, name, columns)
        if not self._may_cache(key, version):  # `keep` may have passed before the file was there
            folder.remove(key, name)
        return files

    def _may_cache(self, key: ChunkKey, version: int) -> bool:
        """Return whether a chunk is not known to be replaced since a snapshot of this version."""
        live = self._live
        is_newer = live is None or live.memory_key != key.memory_key or version >= live.version
        return is_newer or (live is not None and live.have(key))

    def _put(self, key: ChunkKey, columns: OpenedColumns, version: int, size: int) -> _Entry:
        """Add columns to the entry of a chunk, and return it."""
        with self._lock:
            old = self._entries.get(key, _Entry())
            entry = _Entry({**old.columns, **columns}, old.size + size)
            if self._may_cache(key, version):
                self._entries[key] = entry
                self._entries.move_to_end(key)
                self._size += size
                self._evict()
            return entry

    def _evict(self) -> None:
        while self._size > self._max_bytes and self._entries:
            _, oldest = self._entries.popitem(last=False)
            self._size -= oldest.size
        self._publish()

    def _publish(self) -> None:
        if self.is_measured:
            COLUMN_CACHE_BYTES.set(self._size)


COLUMN_CACHE = ColumnCache()
"""The cache of this process."""


class ColumnFolder:
    """Files with columns, in a folder that belongs to the processes of one service."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._numbers = count()
        self._unmeasured = max_bytes  # measures once at the start
        self._lock = threading.Lock()

    def open(self, key: ChunkKey, columns: Iterable[StoredKey]) -> dict[StoredKey, Stored | None]:
        """Return those of the columns that have files; `PACKED` brings all of a chunk."""
        opened: dict[StoredKey, Stored | None] = {}
        for column in columns:
            file = self._file(key, column)
            with suppress(OSError):
                opened |= _open(file)
                os.utime(file)  # the files that were used last are removed last
                if column == PACKED:
                    opened[PACKED] = None
        return opened

    def write(
        self, key: ChunkKey, name: StoredKey, columns: Mapping[StoredKey, Stored]
    ) -> dict[StoredKey, Stored] | None:
        """Write a file and return its columns, mapped; None if that is not possible."""
        file = self._file(key, name)
        partial = file.with_suffix(f".{os.getpid()}-{next(self._numbers)}{_PARTIAL_SUFFIX}")
        content = encode_mapped(columns)
        try:
            partial.write_bytes(content)
            partial.rename(file)
            mapped = _open(file)
        except OSError:  # a full disk, or the folder was removed
            with suppress(OSError):
                partial.unlink()
            return None
        self._bound(len(content))
        return mapped

    def keep(self, live: LiveChunks) -> None:
        """Remove the files of all chunks but these."""
        lineage = _digest(live.memory_key)
        for file in self._files():
            digest, chunk_id, *_ = file.name.split("-")
            if digest != lineage or int(chunk_id) not in live.chunk_ids:
                _remove(file)
        self._remove_abandoned()

    def remove(self, key: ChunkKey, name: StoredKey) -> None:
        """Remove a file, if it is there."""
        _remove(self._file(key, name))

    def _remove_abandoned(self) -> None:
        """Remove what killed processes were writing."""
        with suppress(OSError):
            for partial in self._directory.glob(f"*{_PARTIAL_SUFFIX}"):
                if time.time() - partial.stat().st_mtime > _MAX_WRITE_S:
                    _remove(partial)

    def _file(self, key: ChunkKey, column: StoredKey) -> Path:
        name = f"{_digest(key.memory_key)}-{key.chunk_id}-{column.path_id}-{column.kind}{_SUFFIX}"
        return self._directory / name

    def _files(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from self._directory.glob(f"*{_SUFFIX}")

    def _bound(self, written: int) -> None:
        """Remove the files that were not used for longest once they exceed the bound."""
        with self._lock:
            self._unmeasured += written
            if self._unmeasured * _MEASURE_PART < self._max_bytes:
                return
            self._unmeasured = 0
        total = 0
        for _, size, file in sorted(self._sizes(), reverse=True):
            total += size
            if total > self._max_bytes:
                _remove(file)

    def _sizes(self) -> Iterator[tuple[float, int, Path]]:
        for file in self._files():
            with suppress(OSError):
                status = file.stat()
                yield status.st_mtime, status.st_size, file


def _open(file: Path) -> dict[StoredKey, Stored]:
    """Raises: OSError."""
    try:
        return open_mapped(file)
    except CorruptColumn as exc:
        _remove(file)
        raise OSError from exc


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


@lru_cache(maxsize=16)
def _digest(memory_key: str) -> str:
    return blake2b(memory_key.encode(), digest_size=8).hexdigest()


def _bytes_of(columns: OpenedColumns) -> int:
    """Return the bytes of arrays, and those that each of them takes in addition."""
    return sum(map(_size_of, columns.values()))


def _size_of(stored: Stored | None) -> int:
    if stored is None:
        return _OVERHEAD
    if not isinstance(stored, Column):
        return stored.nbytes + _OVERHEAD
    rows = 0 if stored.rows is None else stored.rows.nbytes
    return rows + _value_bytes(stored.values) + _OVERHEAD


def _value_bytes(values: Values) -> int:
    match values:
        case TextValues(codes, dictionary) | DecimalNumbers(codes, dictionary):
            return codes.nbytes + int(dictionary.nbytes)
        case ScaledNumbers(scaled):
            return scaled.nbytes
        case BooleanValues(booleans):
            return booleans.nbytes


class ChunkColumns:
    """Columns of chunks for a question, decoded chunk by chunk when they are used, then dropped."""

    def __init__(self, cache: ColumnCache, memory_key: str, version: int) -> None:
        """`version` is that of the columns in the snapshot."""
        self._cache = cache
        self._memory_key = memory_key
        self._version = version
        self._opened: dict[int, OpenedColumns] = {}
        self._pending: dict[int, _Pending] = {}

    def __contains__(self, chunk_id: object) -> bool:
        """Return whether a chunk was read and not opened yet."""
        return chunk_id in self._opened

    @property
    def size(self) -> int:
        """The bytes that were read and not decoded yet."""
        return sum(each.size for each in self._pending.values())

    def missing(
        self, chunk_ids: Iterable[int], keys: Collection[StoredKey]
    ) -> dict[tuple[StoredKey, ...], list[int]]:
        """Return the chunks of which columns must be read from PostgreSQL, by these columns."""
        groups: dict[tuple[StoredKey, ...], list[int]] = {}
        for chunk_id in chunk_ids:
            key = ChunkKey(self._memory_key, chunk_id)
            self._opened[chunk_id], missing = self._cache.look_up(key, keys, self._version)
            if missing:
                groups.setdefault(tuple(missing), []).append(chunk_id)
        return groups

    def read(
        self,
        cur: Cursor,
        generation: int,
        chunk_ids: Iterable[int],
        keys: Collection[StoredKey],
        use: Callable[[Collection[int]], None],
    ) -> None:
        """Read the columns that are not cached.

        Whenever many bytes wait to be decoded, `use` is called with their chunks, and opens these.
        """
        listed = list(chunk_ids)
        misses = 0
        for missing, missing_ids in self.missing(listed, keys).items():
            misses += len(missing) * len(missing_ids)
            for start in range(0, len(missing_ids), _READ_CHUNKS):
                self._read(cur, generation, missing_ids[start : start + _READ_CHUNKS], missing)
                if self.size > _MAX_PENDING_BYTES:
                    use(list(self._pending))
        if self._cache.is_measured:
            COLUMN_CACHE_COLUMNS.labels("hit").inc(len(listed) * len(keys) - misses)
            COLUMN_CACHE_COLUMNS.labels("miss").inc(misses)

    def open(self, chunk_id: int) -> OpenedColumns:
        """Return the columns of a chunk, once. Raises: CorruptColumn."""
        opened = self._opened.pop(chunk_id)
        if pending := self._pending.pop(chunk_id, None):
            key = ChunkKey(self._memory_key, chunk_id)
            read = self._cache.add(key, pending.keys, pending.stored, self._version)
            return {**opened, **read}
        return opened

    def _read(
        self, cur: Cursor, generation: int, chunk_ids: list[int], keys: tuple[StoredKey, ...]
    ) -> None:
        batch = {chunk_id: _Pending(keys) for chunk_id in chunk_ids}
        for chunk_id, column, data in read_columns(cur, generation, chunk_ids, keys):
            batch[chunk_id].stored[column] = data
        self._pending |= batch


@dataclass(slots=True)
class _Pending:
    """Columns of a chunk that were read and not decoded."""

    keys: tuple[StoredKey, ...]
    stored: dict[StoredKey, memoryview] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.stored.values()))
