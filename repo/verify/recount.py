"""Recount from the events what slots and spans should contain."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor

from repo.verify.roaring import Ordinals
from repo.verify.snapshot import SQL, FoldState, Span, copy_out

ALL = 0
"""The `name_id` of all names together."""
UNKNOWN = 2**32 - 1
"""Stands for a user without an ordinal."""
MAX_EVENTS = 500_000
"""Events in memory at a time; a single slot may have more."""

_SIGNATURE = 19  # bytes before the first row of COPY's binary format
_RECORD = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("instant", ">i8"),
        ("l2", ">i4"), ("name_id", ">i4"),
        ("l3", ">i4"), ("ordinal", ">i4"),
        ("l4", ">i4"), ("events", ">i8"),
    ]
)  # fmt: skip
_COUNT_RECORD = np.dtype(
    [("columns", ">i2"), ("l1", ">i4"), ("instant", ">i8"), ("l2", ">i4"), ("events", ">i8")]
)
_SLOT_US = 900 * 1_000_000
_SLOTS_TO_2000 = 1_051_872  # times in binary COPY count from 2000
_MERGE_FROM = 16  # parts, which bounds the memory of spans that have many


class Row(NamedTuple):
    """The number of events, and the sorted ordinals of their users."""

    events: int
    users: Ordinals


class Records(NamedTuple):
    """The number of events by slot, name and user, as parallel arrays in the order of slots."""

    slots: NDArray[np.int64]
    names: NDArray[np.int64]
    ordinals: Ordinals
    events: NDArray[np.int64]

    def of_span(self, span: Span) -> "Records":
        part = slice(*np.searchsorted(self.slots, span).tolist())
        return Records(self.slots[part], self.names[part], self.ordinals[part], self.events[part])


def recount(cur: cursor, state: FoldState, piece: Span) -> Records:
    """Count the events of a piece that are folded and have occurred."""
    params = {**piece.from_epoch()._asdict(), **state.params()}
    rows = _rows(copy_out(cur, SQL["verify_recount"], params), _RECORD)
    names, ordinals, events = (rows[name] for name in ("name_id", "ordinal", "events"))
    slots = _slots(rows["instant"])
    return Records(slots, names.astype(np.int64), ordinals.astype(np.uint32), events.astype(int))


def pieces(cur: cursor, state: FoldState, outer: Span, cut: int) -> Iterator[Span]:
    """Cut a range into pieces of at most MAX_EVENTS events, and at `cut` and the horizon."""
    cuts = [slot for slot in sorted({cut, state.horizon}) if outer.start < slot < outer.end]
    for pair in pairwise([outer.start, *cuts, outer.end]):
        yield from _pieces(cur, state, Span(*pair))


def _pieces(cur: cursor, state: FoldState, outer: Span) -> Iterator[Span]:
    params = {**state.params(), **outer.from_epoch()._asdict()}
    rows = _rows(copy_out(cur, SQL["verify_retained_slots"], params), _COUNT_RECORD)
    start, events = outer.start, 0
    for slot, count in zip(_slots(rows["instant"]).tolist(), rows["events"].tolist(), strict=True):
        if events and events + count > MAX_EVENTS:
            yield Span(start, slot)
            start, events = slot, 0
        events += count
    yield Span(start, outer.end)


@dataclass(slots=True)
class Recount:
    """The expected rows of a slot or span, collected from runs of slots."""

    _events: dict[int, int] = field(default_factory=dict)
    _users: dict[int, list[Ordinals]] = field(default_factory=dict)

    def add(self, part: Records) -> None:
        # All names together are counted separately: their stored row must equal the recount.
        if not len(part.slots):
            return
        self._add(ALL, part.events.sum(), np.unique(part.ordinals))
        names, indexes = np.unique(part.names, return_inverse=True)
        events = np.bincount(indexes, part.events)  # as floats: exact up to 2**53
        # Name and user in one integer of 64 bits, so that one sort finds distinct users by name.
        pairs = np.unique(part.names << 32 | part.ordinals)
        edges = [*np.searchsorted(pairs, names << 32).tolist(), len(pairs)]
        ordinals = pairs.astype(np.uint32)
        for index, name_id in enumerate(names.tolist()):
            users = ordinals[edges[index] : edges[index + 1]]
            self._add(name_id, events[index], users)

    def rows(self) -> dict[int, Row]:
        return {
            name_id: Row(events, _drop_nobody(merge(self._users[name_id])))
            for name_id, events in self._events.items()
        }

    def _add(self, name_id: int, events: float, users: Ordinals) -> None:
        self._events[name_id] = self._events.get(name_id, 0) + int(events)
        parts = self._users.setdefault(name_id, [])
        parts.append(users)
        if len(parts) >= _MERGE_FROM:
            parts[:] = [merge(parts)]


def merge(parts: list[Ordinals]) -> Ordinals:
    """Return the sorted union of sets of ordinals."""
    return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))


def _drop_nobody(users: Ordinals) -> Ordinals:
    return users[1:] if len(users) and users[0] == 0 else users


def _rows(data: bytes, kind: np.dtype[np.void]) -> NDArray[np.void]:
    return np.frombuffer(data, kind, (len(data) - _SIGNATURE - 2) // kind.itemsize, _SIGNATURE)


def _slots(instants: NDArray[np.int64]) -> NDArray[np.int64]:
    return instants.astype(np.int64) // _SLOT_US + _SLOTS_TO_2000
