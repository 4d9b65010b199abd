"""Events of one fold, counted by slot and name. Runs in the folder alone: it needs numpy."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from repo.rollups.binary import SIGNATURE

ALL = 0
"""The name_id of all names together."""

# A row of COPY: its number of columns, then each column after its length.
_ROW = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("occurred_at", ">i8"),
        ("l2", ">i4"), ("name_id", ">i4"),
        ("l3", ">i4"), ("ordinal", ">i4"),
    ]
)  # fmt: skip
_SLOT_US = 15 * 60 * 1_000_000
_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_SLOT_2000 = 1_051_872  # PostgreSQL counts from 2000, slots from 1970
_MONTH_1970 = 1970 * 12
_MICROSECOND = timedelta(microseconds=1)

Key = tuple[int, int]
"""A slot, or the place of a span in a list, and a name_id."""


@dataclass(slots=True)
class Delta:
    """What is added to a row."""

    events: int
    users: BitMap

    def add(self, events: int, users: BitMap) -> None:
        self.events += events
        self.users |= users


class Batch:
    """Events as COPY gave them: occurred_at, name_id, ordinal (0: nobody)."""

    def __init__(self, sent: bytes) -> None:
        count = (len(sent) - len(SIGNATURE) - 2) // _ROW.itemsize
        rows = np.frombuffer(sent, _ROW, count, len(SIGNATURE))
        self._moments = rows["occurred_at"].astype(np.int64)
        self._names = rows["name_id"].astype(np.int64)
        self._ordinals = rows["ordinal"].astype(np.uint32)

    def __len__(self) -> int:
        return len(self._moments)

    def deltas(self) -> dict[Key, Delta]:
        """By slot and name, and by slot for all names together."""
        slots = self._moments // _SLOT_US + _SLOT_2000
        return dict(_grouped(slots << 32, self._ordinals)) | dict(
            _grouped(slots << 32 | self._names, self._ordinals)
        )

    def names(self) -> dict[int, int]:
        """How many events there are, by name_id."""
        names, events = np.unique(self._names, return_counts=True)
        return dict(zip(names.tolist(), events.tolist(), strict=True))

    def months_before(self, moment: datetime) -> list[int]:
        """The months of UTC, counted from year 0, of events that occurred before."""
        until = (moment - _EPOCH_2000) // _MICROSECOND
        late = self._moments[self._moments < until]
        months = (np.datetime64("2000-01-01", "us") + late).astype("datetime64[M]")
        return [int(month) + _MONTH_1970 for month in np.unique(months.astype(np.int64))]


def _grouped(keys: NDArray[np.int64], ordinals: NDArray[np.uint32]) -> Iterator[tuple[Key, Delta]]:
    if not len(keys):
        return
    order = np.lexsort((ordinals, keys))
    keys, ordinals = keys[order], ordinals[order]
    edges = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    for start, end in pairwise(edges):
        users = BitMap(array("I", ordinals[start:end].tobytes()))
        users.discard(0)
        key = int(keys[start])
        yield (key >> 32, key & 0xFFFFFFFF), Delta(end - start, users)
