"""What slots and spans should hold, counted from the events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor

from repo.verify.roaring import Ordinals
from repo.verify.snapshot import SQL, Span, State, copied

ALL = 0
"""The name_id of all names together."""
UNKNOWN = 2**32 - 1
"""Stands for users without an ordinal."""
AT_ONCE = 500_000
"""Events in memory, unless a single slot holds more."""

_SIGNATURE = 19  # bytes before the first row of COPY's binary format
_RECORD = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("moment", ">i8"),
        ("l2", ">i4"), ("name_id", ">i4"),
        ("l3", ">i4"), ("ordinal", ">i4"),
        ("l4", ">i4"), ("events", ">i8"),
    ]
)  # fmt: skip
_HELD = np.dtype(
    [("columns", ">i2"), ("l1", ">i4"), ("moment", ">i8"), ("l2", ">i4"), ("events", ">i8")]
)
_SLOT_US = 900 * 1_000_000
_SLOTS_TO_2000 = 1_051_872  # moments of COPY count from 2000
_MERGED_FROM = 16


class Row(NamedTuple):
    """Events, and the ordinals of their users in order."""

    events: int
    users: Ordinals


class Records(NamedTuple):
    """How many events each user caused, by slot and name; in order of slots."""

    slots: NDArray[np.int64]
    names: NDArray[np.int64]
    ordinals: Ordinals
    events: NDArray[np.int64]

    def within(self, span: Span) -> "Records":
        part = slice(*np.searchsorted(self.slots, span).tolist())
        return Records(self.slots[part], self.names[part], self.ordinals[part], self.events[part])


def recounted(cur: cursor, state: State, piece: Span) -> Records:
    """Of the events that are folded and have occurred."""
    given = {**piece.on_the_clock()._asdict(), **state.folded()}
    rows = _rows(copied(cur, SQL["verify_recount"], given), _RECORD)
    names, ordinals, events = (rows[name] for name in ("name_id", "ordinal", "events"))
    slots = _slots(rows["moment"])
    return Records(slots, names.astype(np.int64), ordinals.astype(np.uint32), events.astype(int))


def pieces(cur: cursor, state: State, whole: Span, cut: int) -> Iterator[Span]:
    """Cut a range so that no piece has too many events; also at `cut`, and at the horizon."""
    cuts = [at for at in sorted({cut, state.horizon}) if whole.start < at < whole.end]
    for pair in pairwise([whole.start, *cuts, whole.end]):
        yield from _pieces(cur, state, Span(*pair))


def _pieces(cur: cursor, state: State, whole: Span) -> Iterator[Span]:
    given = {**state.folded(), **whole.on_the_clock()._asdict()}
    rows = _rows(copied(cur, SQL["verify_held"], given), _HELD)
    start, events = whole.start, 0
    for slot, held in zip(_slots(rows["moment"]).tolist(), rows["events"].tolist(), strict=True):
        if events and events + held > AT_ONCE:
            yield Span(start, slot)
            start, events = slot, 0
        events += held
    yield Span(start, whole.end)


@dataclass(slots=True)
class Tally:
    """What a slot or span should hold, by name_id; made of parts, each a run of slots."""

    _events: dict[int, int] = field(default_factory=dict)
    _users: dict[int, list[Ordinals]] = field(default_factory=dict)

    def add(self, part: Records) -> None:
        if not len(part.slots):
            return
        self._add(ALL, part.events.sum(), np.unique(part.ordinals))
        names, places = np.unique(part.names, return_inverse=True)
        events = np.bincount(places, part.events)  # as floats: exact up to 2**53
        pairs = np.unique(part.names << 32 | part.ordinals)
        edges = [*np.searchsorted(pairs, names << 32).tolist(), len(pairs)]
        ordinals = pairs.astype(np.uint32)
        for index, name_id in enumerate(names.tolist()):
            users = ordinals[edges[index] : edges[index + 1]]
            self._add(name_id, events[index], users)

    def rows(self) -> dict[int, Row]:
        return {
            name_id: Row(events, _without_nobody(merged(self._users[name_id])))
            for name_id, events in self._events.items()
        }

    def _add(self, name_id: int, events: float, users: Ordinals) -> None:
        self._events[name_id] = self._events.get(name_id, 0) + int(events)
        parts = self._users.setdefault(name_id, [])
        parts.append(users)
        if len(parts) >= _MERGED_FROM:
            parts[:] = [merged(parts)]


def merged(parts: list[Ordinals]) -> Ordinals:
    return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))


def _without_nobody(users: Ordinals) -> Ordinals:
    return users[1:] if len(users) and users[0] == 0 else users


def _rows(sent: bytes, kind: np.dtype[np.void]) -> NDArray[np.void]:
    return np.frombuffer(sent, kind, (len(sent) - _SIGNATURE - 2) // kind.itemsize, _SIGNATURE)


def _slots(moments: NDArray[np.int64]) -> NDArray[np.int64]:
    return moments.astype(np.int64) // _SLOT_US + _SLOTS_TO_2000
