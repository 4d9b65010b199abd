"""Verify the rollups of dropped events, which can only be compared with each other."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from psycopg2.extensions import cursor

from repo.verify.recount import ALL, Records
from repo.verify.roaring import BadBitmap, Ordinals, decode
from repo.verify.snapshot import FoldState, Span
from repo.verify.stored_rows import stored_slots

_NO_ORDINAL = np.zeros(1, np.uint32)


def retained_records(cur: cursor, state: FoldState, piece: Span) -> Records:
    """Return records made of the slots of single event names, in place of a recount.

    The rows of all names together and of spans must be their sums.
    """
    # The number of events of each user is unknown, so all events of a row are attributed to
    # "nobody", ordinal 0, which counts as no user.
    rows = sorted(_rows(cur, state, piece), key=lambda row: row[0])
    sizes = np.array([len(users) for *_, users in rows], np.int64)
    slots, names, counts = (
        np.array([row[column] for row in rows], np.int64) for column in range(3)
    )
    events = np.zeros(sizes.sum(), np.int64)
    events[np.cumsum(sizes) - sizes] = counts  # at the first ordinal of each row, nobody
    ordinals = np.concatenate([users for *_, users in rows]) if rows else _NO_ORDINAL[:0]
    return Records(slots.repeat(sizes), names.repeat(sizes), ordinals, events)


def _rows(cur: cursor, state: FoldState, piece: Span) -> Iterator[tuple[int, int, int, Ordinals]]:
    """Yield the slot, the name, the number of events, and the users with nobody first."""
    for slot, names in stored_slots(cur, state, piece).items():
        for name_id, row in names.items():
            if name_id != ALL:
                users = _NO_ORDINAL
                with suppress(BadBitmap):  # reported where the row itself is compared
                    users = np.concatenate([_NO_ORDINAL, decode(row.bitmap)])
                yield slot.start, name_id, row.events, users
