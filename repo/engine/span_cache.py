"""What a process keeps of sealed spans: they seldom change, and tell by a version when they do."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from pyroaring import BitMap

from config.database import Cursor
from repo.engine.watermark import SQL, Watermark
from utils.time.slots import HOUR, SEALED_HOURS, Span, slot_of

_MAX_BYTES = 40 * 2**20
_MAX_MEMORY_KEYS = 2  # memory keys: each replica behind a URL has its own
_OVERHEAD = 500  # bytes that a set costs besides its own


class Row(NamedTuple):
    """Events of a span or slot, and their users. Sets are shared: never changed."""

    events: int
    users: BitMap
    row_id: int = 0
    """Of a row that is remembered: no other row of this process has it."""


Rows = Mapping[int, Row]
"""By name_id; 0 is all names together."""


class SpanKey(NamedTuple):
    """Where rows are kept: a span as it was at its version, and which names."""

    memory_key: str
    span: Span
    version: int
    scope: str


def size_of(users: BitMap) -> int:
    """About how many bytes a set takes: of 2 for each user and the 8 kB of 65,536 the fewer."""
    return min(2 * len(users), users.max() // 8 + 8192) if users else 0


@dataclass(frozen=True, slots=True)
class _SealedVersions:
    version: int
    versions: dict[Span, int]


class SpanCache:
    """Bounded; shared by the threads of a process."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sealed: dict[str, _SealedVersions] = {}
        self._rows: OrderedDict[SpanKey, tuple[Rows, int]] = OrderedDict()
        self._bytes = 0
        self._row_ids = count(1)

    def sealed_versions(self, cur: Cursor, watermark: Watermark) -> Mapping[Span, int]:
        """The version of each sealed span, as this snapshot sees them."""
        cached = self._sealed.get(watermark.memory_key, _SealedVersions(-1, {}))
        if cached.version == watermark.sealed_version:
            return cached.versions
        if (
            cached.version > watermark.sealed_version
        ):  # the snapshot is older than what another one has seen
            return _read_versions(cur, watermark, -1)
        versions = _without_old_hours(
            {**cached.versions, **_read_versions(cur, watermark, cached.version)}, watermark
        )
        with self._lock:
            sealed = {
                **self._sealed,
                watermark.memory_key: _SealedVersions(watermark.sealed_version, versions),
            }
            self._sealed = dict(list(sealed.items())[-_MAX_MEMORY_KEYS:])
        return versions

    def get_many(self, keys: Iterable[SpanKey]) -> dict[SpanKey, Rows]:
        """What is kept of these."""
        cached = {}
        with self._lock:
            for key in keys:
                if entry := self._rows.get(key):
                    self._rows.move_to_end(key)
                    cached[key] = entry[0]
        return cached

    def put(self, key: SpanKey, fetched: Rows, size: int) -> Rows:
        """The rows with their marks. Forgets what was not asked for the longest time."""
        rows = {
            name_id: row._replace(row_id=next(self._row_ids)) for name_id, row in fetched.items()
        }
        size += (len(rows) + 1) * _OVERHEAD
        with self._lock:
            self._bytes += size - self._rows.pop(key, ({}, 0))[1]
            self._rows[key] = (rows, size)
            while self._bytes > self._max_bytes:
                _, (_, evicted_bytes) = self._rows.popitem(last=False)
                self._bytes -= evicted_bytes
        return rows


def _read_versions(cur: Cursor, watermark: Watermark, since: int) -> dict[Span, int]:
    cur.execute(SQL["rollups_sealed"], {"generation": watermark.generation, "since": since})
    return {Span(start, end): version for start, end, version in cur}


def _without_old_hours(versions: dict[Span, int], watermark: Watermark) -> dict[Span, int]:
    """Without the hours that the folder may have let go, of which no version tells."""
    oldest = slot_of(watermark.folded_range.end) - SEALED_HOURS
    return {
        span: version
        for span, version in versions.items()
        if span.start >= oldest or span.end - span.start > HOUR
    }
