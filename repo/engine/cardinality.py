"""How many users there are in several rows together, without joining the same ones twice.

Rows that are remembered have marks. A number of users is known by the marks of its rows, so it is
exact for as long as it is known: rows that change get other marks.
"""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import Generic, TypeVar

from pyroaring import BitMap

from repo.engine.bitmaps import rolling_counts, running_counts, union_of
from repo.engine.span_cache import Row, size_of

_MAX_COUNTS = 20_000
_MAX_SET_BYTES = 12 * 2**20
_ENTRY_BYTES = 200
"""Bytes that a number takes, and a set besides its own."""

V = TypeVar("V")
Count = Callable[[Sequence[BitMap], int], Iterable[int]]
"""Counts windows of days, of which the first is the one at this index."""


@dataclass(slots=True)
class PartialAggregate:
    """Events and users that were counted in parts."""

    events: int = 0
    rows: list[Row] = field(default_factory=list)
    """Those that are remembered."""
    uncached: list[BitMap] = field(default_factory=list)
    """Users that were read for one question alone."""
    union: BitMap | None = None
    """All of them, once they were joined."""

    def add(self, row: Row) -> None:
        self.events += row.events
        if row.row_id:
            self.rows.append(row)
        else:
            self.uncached.append(row.users)


class CardinalityCache:
    """Bounded; shared by the threads of a process."""

    def __init__(self) -> None:
        self._counts: _BoundedCache[int] = _BoundedCache(_MAX_COUNTS * _ENTRY_BYTES)
        self._sets: _BoundedCache[BitMap] = _BoundedCache(_MAX_SET_BYTES)

    def count(self, partials: Sequence[PartialAggregate]) -> int:
        """How many users there are in all of these."""
        rows = [row for partial in partials for row in partial.rows]
        uncached = [users for tally in partials for users in tally.uncached]
        if uncached and len(partials) == 1:
            return len(self.users(*partials))
        if uncached:
            return len(union_of([self._union_of(rows), *uncached]))
        if len(rows) < 2:
            return len(rows[0].users) if rows else 0
        key = _key(sorted(row.row_id for row in rows))
        count = self._counts.get(key)
        if count is None:
            count = len(union_of(row.users for row in rows))
            self._counts.put(key, count, _ENTRY_BYTES)
        return count

    def users(self, partial: PartialAggregate) -> BitMap:
        """Never to be changed: it may be a set that others share."""
        if partial.union is None:
            users = self._union_of(partial.rows)
            partial.union = union_of([users, *partial.uncached]) if partial.uncached else users
        return partial.union

    def rolling(self, days: Sequence[PartialAggregate], width: int) -> list[int]:
        """For each day, how many users it and the days before have, `width` in all."""
        firsts = [max(0, index + 1 - width) for index in range(len(days))]
        return self._windows(days, firsts, lambda sets, _: rolling_counts(sets, width))

    def running(self, days: Sequence[PartialAggregate], is_first: Sequence[bool]) -> list[int]:
        """For each day, how many users the days since the last one that `begins` have."""
        firsts = list(
            accumulate((at if is_start else 0 for at, is_start in enumerate(is_first)), max)
        )
        return self._windows(
            days, firsts, lambda sets, index: running_counts(sets, is_first[index:])
        )

    def _windows(
        self, days: Sequence[PartialAggregate], firsts: Sequence[int], count: Count
    ) -> list[int]:
        """What is not known is counted from the first such day on."""
        keys = _keys(days, firsts)
        cached = [self._counts.get(key) if key else None for key in keys]
        if None not in cached:
            return [number or 0 for number in cached]
        missing = cached.index(None)
        start = firsts[missing]
        computed = list(count([self.users(day) for day in days[start:]], start))[missing - start :]
        for key, number in zip(keys[missing:], computed, strict=True):
            if key:
                self._counts.put(key, number, _ENTRY_BYTES)
        return [*(number or 0 for number in cached[:missing]), *computed]

    def _union_of(self, rows: Sequence[Row]) -> BitMap:
        """Never to be changed: it may be a set that others share."""
        if len(rows) < 2:
            return rows[0].users if rows else BitMap()
        key = _key(row.row_id for row in rows)
        users = self._sets.get(key)
        if users is None:
            users = union_of(row.users for row in rows)
            self._sets.put(key, users, size_of(users) + _ENTRY_BYTES)
        return users


class _BoundedCache(Generic[V]):
    """What was used last, up to so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> V | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: bytes, value: V, size: int) -> None:
        with self._lock:
            self._bytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = (value, size)
            while self._bytes > self._max_bytes:
                _, (_, evicted_bytes) = self._values.popitem(last=False)
                self._bytes -= evicted_bytes


def _key(row_ids: Iterable[int]) -> bytes:
    return _digest(array("Q", row_ids).tobytes())


def _digest(row_ids: bytes) -> bytes:
    """Two that differ have the same one never, for all that it matters: it has 128 bits."""
    return blake2b(row_ids, digest_size=16).digest()


def _keys(days: Sequence[PartialAggregate], firsts: Sequence[int]) -> list[bytes | None]:
    """Of each window; None where users of it were read for this question alone."""
    row_ids = [array("Q", (row.row_id for row in day.rows)).tobytes() for day in days]
    last_uncached, keys = -1, list[bytes | None]()
    for index, first in enumerate(firsts):
        last_uncached = index if days[index].uncached else last_uncached
        is_cacheable = first > last_uncached
        keys.append(_digest(b"".join(row_ids[first : index + 1])) if is_cacheable else None)
    return keys
