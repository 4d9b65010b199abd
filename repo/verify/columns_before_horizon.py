"""Count the events and users of columns of dropped events, to compare them with rollups."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.verify.column_state import slots_of
from repo.verify.fingerprints import EventRows, Hashes, mix
from repo.verify.recount import Records
from utils.formats import quantity


class SlotName(NamedTuple):
    """One event name in one slot."""

    slot: int
    name_id: int


class Count(NamedTuple):
    """The events and users of one name in one slot."""

    events: int
    users: int
    user_hash: int
    """The sum of the hashes of users, which are equal if the users are."""

    def __str__(self) -> str:
        return f"{quantity(self.events, 'event')}, {quantity(self.users, 'user')}"

    def equals(self, expected: "Count", *, has_reduced_counts: bool) -> bool:
        """Return whether users are equal, and events as well if they can be compared."""
        is_expected = self.events == expected.events
        if has_reduced_counts:
            is_expected = self.events <= expected.events
        return is_expected and self.user_hash == expected.user_hash


NOTHING = Count(0, 0, 0)


def count_rows(rows: EventRows) -> dict[SlotName, Count]:
    """Count the events of columns."""
    return _count(slots_of(rows.time), rows.name, rows.user, np.ones(len(rows), np.int64))


def count_records(records: Records) -> dict[SlotName, Count]:
    """Count what rollups contain."""
    ordinals = records.ordinals.astype(np.int64)
    return _count(records.slots, records.names, ordinals, records.events)


def _count(
    slots: NDArray[np.int64],
    names: NDArray[np.int64],
    users: NDArray[np.int64],
    events: NDArray[np.int64],
) -> dict[SlotName, Count]:
    keys, positions = np.unique(slots << 32 | names, return_inverse=True)
    event_sums = np.bincount(positions, events, len(keys)).astype(np.int64)
    # Each user once for each key, and nobody not at all.
    hashes = mix(users.view(np.uint64))
    _, first = np.unique(mix(hashes ^ keys[positions].view(np.uint64)), return_index=True)
    first = first[users[first] != 0]
    user_counts = np.bincount(positions[first], minlength=len(keys))
    user_sums = _sum(positions[first], hashes[first], len(keys))
    rows = zip(event_sums.tolist(), user_counts.tolist(), user_sums.tolist(), strict=True)
    return {
        SlotName(key >> 32, key & 0xFFFFFFFF): Count(*row)
        for key, row in zip(keys.tolist(), rows, strict=True)
    }


def _sum(positions: NDArray[np.int64], hashes: Hashes, size: int) -> Hashes:
    sums = np.zeros(size, np.uint64)
    np.add.at(sums, positions, hashes)
    return sums
