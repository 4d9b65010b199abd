"""Find the tail, the events that are not folded yet, as ranges of transaction ids."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_COLUMNS = ("first_xid", "end_xid", "swept_until", "swept_id")


class Snapshot(NamedTuple):
    """A snapshot as text: it sees all transactions before `xmax` except those in `xip`."""

    text: str

    @property
    def xmax(self) -> int:
        return _parsed(self.text)[0]

    @property
    def xip(self) -> list[int]:
        return _parsed(self.text)[1]

    def sees(self, xids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each transaction whether the snapshot sees it, if it was committed."""
        return (xids < self.xmax) & ~np.isin(xids, self.xip)


# All queries between two folds parse the same few snapshots.
@lru_cache(maxsize=16)
def _parsed(text: str) -> tuple[int, list[int]]:
    _, xmax, xip = text.split(":")
    return int(xmax), sorted(int(xid) for xid in xip.split(",") if xid)


# Transaction ids below 3 have a special meaning, so this snapshot sees no transaction.
NOTHING_FOLDED = Snapshot("3:3:")


class BackfillCursor(NamedTuple):
    """The last event of a backfill so far, by time and id; all before it are folded."""

    until: str
    event_id: str


NO_BACKFILL = BackfillCursor("-infinity", "00000000-0000-0000-0000-000000000000")


ALL_XIDS = {"first_xids": ["3"], "end_xids": [str(2**64 - 1)]}
"""All transaction ids, including future ones, as parameters of statements."""


class XidRange(NamedTuple):
    """A range of transaction ids, first <= xid < until."""

    first: int
    until: int


def tail_ranges(
    now: Snapshot,
    folded: Snapshot,
    backfill_to: Snapshot = NOTHING_FOLDED,
    backfill_cursor: BackfillCursor = NO_BACKFILL,
) -> dict[str, list[str]]:
    """Return the ranges of ids that `now` sees and `folded` did not, as parameters of statements.

    With each range stands how far a backfill has come in it.
    """
    # Transactions that are still open are left out: the index on their ids has their rows as well,
    # which may be millions, and reading past them would slow every query down.
    unfolded = [
        xids
        for invisible in _invisible(XidRange(0, now.xmax), folded)
        for xids in _visible(invisible, now)
    ]
    parts = [(ids, NO_BACKFILL) for ids in unfolded]
    if backfill_cursor != NO_BACKFILL:
        parts = [(part, backfill_cursor) for ids in unfolded for part in _visible(ids, backfill_to)]
        parts += [(part, NO_BACKFILL) for ids in unfolded for part in _invisible(ids, backfill_to)]
    return {
        "first_xids": [str(ids.first) for ids, _ in parts],
        "end_xids": [str(ids.until) for ids, _ in parts],
        "swept_untils": [backfilled.until for _, backfilled in parts],
        "swept_ids": [backfilled.event_id for _, backfilled in parts],
    }


def split_ranges(tail: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the ranges one by one, each as parameters of a statement."""
    columns = (tail[f"{name}s"] for name in _COLUMNS)
    return [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


def _visible(xids: XidRange, snapshot: Snapshot) -> Iterator[XidRange]:
    """Yield the ranges of these ids that a snapshot sees."""
    first, until = xids.first, min(xids.until, snapshot.xmax)
    for xid in snapshot.xip:
        if first <= xid < until:
            yield from _nonempty(first, xid)
            first = xid + 1
    yield from _nonempty(first, until)


def _invisible(xids: XidRange, snapshot: Snapshot) -> Iterator[XidRange]:
    """Yield the ranges of these ids that a snapshot does not see."""
    for xid in snapshot.xip:
        if xids.first <= xid < min(xids.until, snapshot.xmax):
            yield XidRange(xid, xid + 1)
    yield from _nonempty(max(xids.first, snapshot.xmax), xids.until)


def _nonempty(first: int, until: int) -> Iterator[XidRange]:
    if first < until:
        yield XidRange(first, until)
