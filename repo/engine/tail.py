"""Which events wait to be folded: told by the transactions that they came in by."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

_COLUMNS = ("first", "until", "swept_until", "swept_id")


class Snapshot(NamedTuple):
    """Which transactions a snapshot does not see: from xmax on, and some before."""

    text: str

    @property
    def xmax(self) -> int:
        return _parsed(self.text)[0]

    @property
    def xip(self) -> list[int]:
        return _parsed(self.text)[1]


@lru_cache(maxsize=16)
def _parsed(text: str) -> tuple[int, list[int]]:
    _, xmax, xip = text.split(":")
    return int(xmax), sorted(int(xid) for xid in xip.split(",") if xid)


NOTHING_FOLDED = Snapshot("3:3:")


class BackfillCursor(NamedTuple):
    """The last event that a sweep took: those before it in the order of time are folded."""

    until: str
    event_id: str


NO_BACKFILL = BackfillCursor("-infinity", "00000000-0000-0000-0000-000000000000")


ALL_XIDS = {"firsts": ["3"], "untils": [str(2**64 - 1)]}
"""All ids, those of transactions to come among them, as statements take them."""


class XidRange(NamedTuple):
    """Of transactions: from the first one on, up to before the other."""

    first: int
    until: int


def tail_ranges(
    now: Snapshot,
    folded: Snapshot,
    backfill_to: Snapshot = NOTHING_FOLDED,
    backfill_cursor: BackfillCursor = NO_BACKFILL,
) -> dict[str, list[str]]:
    """What `now` sees and `folded` did not, as statements take it: ids, and how far each is swept.

    Rows of a transaction that is not over stand in the index too, and it may have written millions:
    no statement looks at them.
    """
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
        "firsts": [str(ids.first) for ids, _ in parts],
        "untils": [str(ids.until) for ids, _ in parts],
        "swept_untils": [backfilled.until for _, backfilled in parts],
        "swept_ids": [done.event_id for _, done in parts],
    }


def split_ranges(tail: Mapping[str, Any]) -> list[dict[str, str]]:
    """The ranges one by one."""
    columns = (tail[f"{name}s"] for name in _COLUMNS)
    return [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


def _visible(xids: XidRange, snapshot: Snapshot) -> Iterator[XidRange]:
    """Those of the ids that a snapshot sees."""
    first, until = xids.first, min(xids.until, snapshot.xmax)
    for xid in snapshot.xip:
        if first <= xid < until:
            yield from _nonempty(first, xid)
            first = xid + 1
    yield from _nonempty(first, until)


def _invisible(xids: XidRange, snapshot: Snapshot) -> Iterator[XidRange]:
    """Those of the ids that it does not see."""
    for xid in snapshot.xip:
        if xids.first <= xid < min(xids.until, snapshot.xmax):
            yield XidRange(xid, xid + 1)
    yield from _nonempty(max(xids.first, snapshot.xmax), xids.until)


def _nonempty(first: int, until: int) -> Iterator[XidRange]:
    if first < until:
        yield XidRange(first, until)
