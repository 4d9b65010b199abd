"""What a process keeps of sealed spans: they seldom change, and tell by a version when they do."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from pyroaring import BitMap

from config.database import Cursor
from repo.rollups.state import SQL, State
from utils.slots import HOUR, HOURS_KEPT, Span, slot_of

_LARGEST = 40 * 2**20
_MEMORIES = 2  # memory keys: each replica behind a URL has its own
_OVERHEAD = 500  # bytes that a set costs besides its own


class Row(NamedTuple):
    """Events of a span or slot, and their users. Sets are shared: never changed."""

    events: int
    users: BitMap
    mark: int = 0
    """Of a row that is remembered: no other row of this process has it."""


Rows = Mapping[int, Row]
"""By name_id; 0 is all names together."""


class Place(NamedTuple):
    """Where rows are kept: a span as it was at its version, and which names."""

    memory_key: str
    span: Span
    version: int
    scope: str


def size_of(users: BitMap) -> int:
    """About how many bytes a set takes: of 2 for each user and the 8 kB of 65,536 the fewer."""
    return min(2 * len(users), users.max() // 8 + 8192) if users else 0


@dataclass(frozen=True, slots=True)
class _Seals:
    version: int
    versions: dict[Span, int]


class Memory:
    """Bounded; shared by the threads of a process."""

    def __init__(self, largest: int = _LARGEST) -> None:
        self._largest = largest
        self._lock = threading.Lock()
        self._seals: dict[str, _Seals] = {}
        self._rows: OrderedDict[Place, tuple[Rows, int]] = OrderedDict()
        self._bytes = 0
        self._marks = count(1)

    def sealed(self, cur: Cursor, state: State) -> Mapping[Span, int]:
        """The version of each sealed span, as this snapshot sees them."""
        known = self._seals.get(state.memory_key, _Seals(-1, {}))
        if known.version == state.sealed:
            return known.versions
        if known.version > state.sealed:  # the snapshot is older than what another one has seen
            return _seals(cur, state, -1)
        versions = _kept({**known.versions, **_seals(cur, state, known.version)}, state)
        with self._lock:
            seals = {**self._seals, state.memory_key: _Seals(state.sealed, versions)}
            self._seals = dict(list(seals.items())[-_MEMORIES:])
        return versions

    def find(self, places: Iterable[Place]) -> dict[Place, Rows]:
        """What is kept of these."""
        found = {}
        with self._lock:
            for place in places:
                if entry := self._rows.get(place):
                    self._rows.move_to_end(place)
                    found[place] = entry[0]
        return found

    def keep(self, place: Place, read: Rows, size: int) -> Rows:
        """The rows with their marks. Forgets what was not asked for the longest time."""
        rows = {name_id: row._replace(mark=next(self._marks)) for name_id, row in read.items()}
        size += (len(rows) + 1) * _OVERHEAD
        with self._lock:
            self._bytes += size - self._rows.pop(place, ({}, 0))[1]
            self._rows[place] = (rows, size)
            while self._bytes > self._largest:
                _, (_, gone) = self._rows.popitem(last=False)
                self._bytes -= gone
        return rows


def _seals(cur: Cursor, state: State, since: int) -> dict[Span, int]:
    cur.execute(SQL["rollups_sealed"], {"generation": state.generation, "since": since})
    return {Span(start, end): version for start, end, version in cur}


def _kept(versions: dict[Span, int], state: State) -> dict[Span, int]:
    """Without the hours that the folder may have let go, of which no version tells."""
    oldest = slot_of(state.folded.end) - HOURS_KEPT
    return {
        span: version
        for span, version in versions.items()
        if span.start >= oldest or span.end - span.start > HOUR
    }
