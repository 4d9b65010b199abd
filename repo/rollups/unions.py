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

from repo.rollups.memory import Row, size_of
from utils.bitmaps import joined, rolling, running

_MOST_NUMBERS = 20_000
_LARGEST = 12 * 2**20
_ENTRY = 200
"""Bytes that a number takes, and a set besides its own."""

V = TypeVar("V")
Count = Callable[[Sequence[BitMap], int], Iterable[int]]
"""Counts windows of days, of which the first is the one at this index."""


@dataclass(slots=True)
class Tally:
    """Events and users that were counted in parts."""

    events: int = 0
    rows: list[Row] = field(default_factory=list)
    """Those that are remembered."""
    loose: list[BitMap] = field(default_factory=list)
    """Users that were read for one question alone."""
    union: BitMap | None = None
    """All of them, once they were joined."""

    def add(self, row: Row) -> None:
        self.events += row.events
        if row.mark:
            self.rows.append(row)
        else:
            self.loose.append(row.users)


class Unions:
    """Bounded; shared by the threads of a process."""

    def __init__(self) -> None:
        self._numbers: _Kept[int] = _Kept(_MOST_NUMBERS * _ENTRY)
        self._sets: _Kept[BitMap] = _Kept(_LARGEST)

    def count(self, tallies: Sequence[Tally]) -> int:
        """How many users there are in all of these."""
        rows = [row for tally in tallies for row in tally.rows]
        loose = [users for tally in tallies for users in tally.loose]
        if loose and len(tallies) == 1:
            return len(self.users(*tallies))
        if loose:
            return len(joined([self._joined(rows), *loose]))
        if len(rows) < 2:
            return len(rows[0].users) if rows else 0
        key = _key(sorted(row.mark for row in rows))
        number = self._numbers.get(key)
        if number is None:
            number = len(joined(row.users for row in rows))
            self._numbers.put(key, number, _ENTRY)
        return number

    def users(self, tally: Tally) -> BitMap:
        """Never to be changed: it may be a set that others share."""
        if tally.union is None:
            users = self._joined(tally.rows)
            tally.union = joined([users, *tally.loose]) if tally.loose else users
        return tally.union

    def rolling(self, days: Sequence[Tally], width: int) -> list[int]:
        """For each day, how many users it and the days before have, `width` in all."""
        firsts = [max(0, at + 1 - width) for at in range(len(days))]
        return self._windows(days, firsts, lambda sets, _: rolling(sets, width))

    def running(self, days: Sequence[Tally], begins: Sequence[bool]) -> list[int]:
        """For each day, how many users the days since the last one that `begins` have."""
        firsts = list(accumulate((at if begin else 0 for at, begin in enumerate(begins)), max))
        return self._windows(days, firsts, lambda sets, at: running(sets, begins[at:]))

    def _windows(self, days: Sequence[Tally], firsts: Sequence[int], count: Count) -> list[int]:
        """What is not known is counted from the first such day on."""
        keys = _keys(days, firsts)
        found = [self._numbers.get(key) if key else None for key in keys]
        if None not in found:
            return [number or 0 for number in found]
        missing = found.index(None)
        start = firsts[missing]
        counted = list(count([self.users(day) for day in days[start:]], start))[missing - start :]
        for key, number in zip(keys[missing:], counted, strict=True):
            if key:
                self._numbers.put(key, number, _ENTRY)
        return [*(number or 0 for number in found[:missing]), *counted]

    def _joined(self, rows: Sequence[Row]) -> BitMap:
        """Never to be changed: it may be a set that others share."""
        if len(rows) < 2:
            return rows[0].users if rows else BitMap()
        key = _key(row.mark for row in rows)
        users = self._sets.get(key)
        if users is None:
            users = joined(row.users for row in rows)
            self._sets.put(key, users, size_of(users) + _ENTRY)
        return users


class _Kept(Generic[V]):
    """What was used last, up to so many bytes."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
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
            while self._bytes > self._largest:
                _, (_, gone) = self._values.popitem(last=False)
                self._bytes -= gone


def _key(marks: Iterable[int]) -> bytes:
    return _digest(array("Q", marks).tobytes())


def _digest(marks: bytes) -> bytes:
    """Two that differ have the same one never, for all that it matters: it has 128 bits."""
    return blake2b(marks, digest_size=16).digest()


def _keys(days: Sequence[Tally], firsts: Sequence[int]) -> list[bytes | None]:
    """Of each window; None where users of it were read for this question alone."""
    marks = [array("Q", (row.mark for row in day.rows)).tobytes() for day in days]
    last_loose, keys = -1, list[bytes | None]()
    for at, first in enumerate(firsts):
        last_loose = at if days[at].loose else last_loose
        known = first > last_loose
        keys.append(_digest(b"".join(marks[first : at + 1])) if known else None)
    return keys
