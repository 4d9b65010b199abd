"""Aggregate the events of one fold by slot and event name, with numpy."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from utils.copy_binary import SIGNATURE

ALL = 0
"""The name_id of all names together."""

ROW = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("occurred_at", ">i8"),
        ("l2", ">i4"), ("name_id", ">i4"),
        ("l3", ">i4"), ("ordinal", ">i4"),
        ("l4", ">i4"), ("event_id", "V16"),
    ]
)  # fmt: skip
"""A row of binary COPY: the number of columns, then the length and the value of each.

The ordinal of an event without a user is 0.
"""
Rows = NDArray[np.void]
_SLOT_US = 15 * 60 * 1_000_000
_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_SLOT_2000 = 1_051_872  # the slot of 2000-01-01, from which binary COPY counts
_MONTH_1970 = 1970 * 12
_MICROSECOND = timedelta(microseconds=1)

Key = tuple[int, int]
"""A slot and a `name_id`."""


@dataclass(slots=True)
class Delta:
    """Events and users to add to a row."""

    events: int
    users: BitMap

    def add(self, events: int, users: BitMap) -> None:
        self.events += events
        self.users |= users


def merge_deltas(deltas: Sequence[Delta]) -> Delta:
    """Return the sum of the events and the union of the users."""
    users = BitMap.union(*(delta.users for delta in deltas))
    return Delta(sum(delta.events for delta in deltas), users)


def decode_rows(data: bytes) -> Rows:
    """Return the rows of the output of COPY, without copying them."""
    count = (len(data) - len(SIGNATURE) - 2) // ROW.itemsize
    return np.frombuffer(data, ROW, count, len(SIGNATURE))


def last_event(rows: Rows) -> tuple[datetime, UUID]:
    """Return the time and the id of the last event, ordered by both."""
    last = rows["occurred_at"].max()
    ids = rows["event_id"][rows["occurred_at"] == last]
    return _EPOCH_2000 + int(last) * _MICROSECOND, UUID(bytes=max(ids.tolist()))


class Batch:
    """The events of a fold that occurred before an instant; later ones are left out."""

    def __init__(self, parts: Sequence[Rows], before: datetime) -> None:
        # To the native byte order: COPY's is big-endian, in which numpy computes slowly.
        instants = _column(parts, "occurred_at").astype(np.int64)
        is_before = instants < _microseconds(before)
        self._instants = instants[is_before]
        self._names = _column(parts, "name_id").astype(np.int64)[is_before]
        self._ordinals = _column(parts, "ordinal").astype(np.uint32)[is_before]

    def __len__(self) -> int:
        return len(self._instants)

    @cached_property
    def deltas(self) -> Mapping[Key, Delta]:
        """The deltas by slot and name, and for all names of a slot under the name `ALL`."""
        # One integer of 64 bits holds slot and name, so that one sort groups by both.
        slots = self._instants // _SLOT_US + _SLOT_2000
        by_name = dict(_grouped(slots << 32 | self._names, self._ordinals))
        return by_name | _sum_of_names(by_name)

    @cached_property
    def slots(self) -> set[int]:
        """The slots of the events."""
        return {slot for slot, _ in self.deltas}

    def names(self) -> dict[int, int]:
        """Return the number of events by `name_id`."""
        names, events = np.unique(self._names, return_counts=True)
        return dict(zip(names.tolist(), events.tolist(), strict=True))

    def months_before(self, instant: datetime) -> list[int]:
        """Return the UTC months, counted from year 0, of events that occurred before `instant`."""
        late = self._instants[self._instants < _microseconds(instant)]
        months = (np.datetime64("2000-01-01", "us") + late).astype("datetime64[M]")
        return [int(month) + _MONTH_1970 for month in np.unique(months.astype(np.int64))]


def _column(parts: Sequence[Rows], name: str) -> NDArray[Any]:
    return np.concatenate([rows[name] for rows in parts])


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH_2000) // _MICROSECOND


def _grouped(keys: NDArray[np.int64], ordinals: NDArray[np.uint32]) -> Iterator[tuple[Key, Delta]]:
    """Yield a delta for each distinct key."""
    # Bitmaps are built faster from sorted ordinals. Two sorts take less time than `np.lexsort`.
    order = np.argsort(ordinals)
    order = order[np.argsort(keys[order], kind="stable")]
    keys, ordinals = keys[order], ordinals[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    bounds = pairwise([*starts.tolist(), len(keys)])
    for key, (start, end) in zip(keys[starts].tolist(), bounds, strict=True):
        users = BitMap(array("I", ordinals[start:end].tobytes()))
        users.discard(0)  # the ordinal of events without a user
        yield (key >> 32, key & 0xFFFFFFFF), Delta(end - start, users)


def _sum_of_names(by_name: Mapping[Key, Delta]) -> dict[Key, Delta]:
    by_slot: dict[int, list[Delta]] = defaultdict(list)
    for (slot, _), delta in by_name.items():
        by_slot[slot].append(delta)
    return {(slot, ALL): merge_deltas(deltas) for slot, deltas in by_slot.items()}
