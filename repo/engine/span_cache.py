"""A cache of the rows of sealed spans, which have a version and seldom change."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from typing import NamedTuple

from pyroaring import BitMap

from config.database import Cursor
from repo.engine.watermark import SQL, Watermark
from utils.lru_cache import SharedLruCache
from utils.time.slots import HOUR, SEALED_HOURS, Span, slot_of

_MAX_BYTES = 40 * 2**20
_MAX_MEMORY_KEYS = 2  # each of several replicas behind one URL has a memory key of its own
_OVERHEAD = 500  # bytes of a cached row in addition to its set


class Row(NamedTuple):
    """The events and users of a span or slot. Sets are shared and must not be changed."""

    events: int
    users: BitMap
    row_id: int = 0
    """The id of a cached row, unique in this process; 0 for a row that is not cached."""


Rows = Mapping[int, Row]
"""Rows by `name_id`; 0 is all names together."""


class SpanKey(NamedTuple):
    """The cache key of rows: a span at a version, and which names."""

    memory_key: str
    span: Span
    version: int
    scope: str


def size_of(users: BitMap) -> int:
    """Return the approximate size of a set in bytes: see `bitmaps.max_bytes`."""
    return min(2 * len(users), users.max() // 8 + 8192) if users else 0


@dataclass(frozen=True, slots=True)
class _SealedVersions:
    version: int
    versions: dict[Span, int]


class SpanCache:
    """A bounded cache, shared by the threads of a process."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._lock = threading.Lock()
        self._sealed: dict[str, _SealedVersions] = {}
        self._rows: SharedLruCache[SpanKey, tuple[Rows, int]] = SharedLruCache(
            max_bytes, size_of=itemgetter(1)
        )
        self._row_ids = count(1)

    def sealed_versions(self, cur: Cursor, watermark: Watermark) -> Mapping[Span, int]:
        """Return the version of each sealed span, as the snapshot of `cur` sees them."""
        cached = self._sealed.get(watermark.memory_key, _SealedVersions(-1, {}))
        if cached.version == watermark.sealed_version:
            return cached.versions
        # Another thread has a newer snapshot: its versions must not be used in this one.
        if cached.version > watermark.sealed_version:
            return _read_versions(cur, watermark, -1)
        versions = _without_old_hours(
            {**cached.versions, **_read_versions(cur, watermark, cached.version)}, watermark
        )
        with self._lock:
            # A copy replaces the dictionary, so that readers need no lock.
            sealed = {
                **self._sealed,
                watermark.memory_key: _SealedVersions(watermark.sealed_version, versions),
            }
            self._sealed = dict(list(sealed.items())[-_MAX_MEMORY_KEYS:])
        return versions

    def get_many(self, keys: Iterable[SpanKey]) -> dict[SpanKey, Rows]:
        """Return the cached rows of these keys."""
        return {key: rows for key, (rows, _) in self._rows.get_many(keys).items()}

    def put_many(self, fetched: Mapping[SpanKey, tuple[Rows, int]]) -> dict[SpanKey, Rows]:
        """Cache rows, with the size of their sets, and return them with ids.

        The least recently used ones are evicted.
        """
        cached = {key: self._with_ids(rows) for key, (rows, _) in fetched.items()}
        entries = {
            key: (rows, fetched[key][1] + (len(rows) + 1) * _OVERHEAD)
            for key, rows in cached.items()
        }
        self._rows.put_many(entries)
        return cached

    def _with_ids(self, rows: Rows) -> Rows:
        # New ids even for rows that were cached before: a cached cardinality must not outlive them.
        return {name_id: row._replace(row_id=next(self._row_ids)) for name_id, row in rows.items()}


def _read_versions(cur: Cursor, watermark: Watermark, since: int) -> dict[Span, int]:
    cur.execute(SQL["rollups_sealed_since"], {"generation": watermark.generation, "since": since})
    return {Span(start, end): version for start, end, version in cur}


def _without_old_hours(versions: dict[Span, int], watermark: Watermark) -> dict[Span, int]:
    """Drop hours that the rollup worker may have deleted, which changes no version."""
    oldest = slot_of(watermark.folded_range.end) - SEALED_HOURS
    return {
        span: version
        for span, version in versions.items()
        if span.start >= oldest or span.end - span.start > HOUR
    }
