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


class Swept(NamedTuple):
    """The last event that a sweep took: those before it in the order of time are folded."""

    until: str
    event_id: str


NOT_SWEEPING = Swept("-infinity", "00000000-0000-0000-0000-000000000000")


EVERYTHING = {"firsts": ["3"], "untils": [str(2**64 - 1)]}
"""All ids, those of transactions to come among them, as statements take them."""


class Ids(NamedTuple):
    """Of transactions: from the first one on, up to before the other."""

    first: int
    until: int


def waiting(
    now: Snapshot,
    folded: Snapshot,
    sweeping_to: Snapshot = NOTHING_FOLDED,
    swept: Swept = NOT_SWEEPING,
) -> dict[str, list[str]]:
    """What `now` sees and `folded` did not, as statements take it: ids, and how far each is swept.

    Rows of a transaction that is not over stand in the index too, and it may have written millions:
    no statement looks at them.
    """
    unfolded = [ids for unseen in _unseen(Ids(0, now.xmax), folded) for ids in _seen(unseen, now)]
    parts = [(ids, NOT_SWEEPING) for ids in unfolded]
    if swept != NOT_SWEEPING:
        parts = [(part, swept) for ids in unfolded for part in _seen(ids, sweeping_to)]
        parts += [(part, NOT_SWEEPING) for ids in unfolded for part in _unseen(ids, sweeping_to)]
    return {
        "firsts": [str(ids.first) for ids, _ in parts],
        "untils": [str(ids.until) for ids, _ in parts],
        "swept_untils": [done.until for _, done in parts],
        "swept_ids": [done.event_id for _, done in parts],
    }


def ranges_of(given: Mapping[str, Any]) -> list[dict[str, str]]:
    """The ranges one by one."""
    columns = (given[f"{name}s"] for name in _COLUMNS)
    return [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


def _seen(ids: Ids, snapshot: Snapshot) -> Iterator[Ids]:
    """Those of the ids that a snapshot sees."""
    first, until = ids.first, min(ids.until, snapshot.xmax)
    for xid in snapshot.xip:
        if first <= xid < until:
            yield from _some(first, xid)
            first = xid + 1
    yield from _some(first, until)


def _unseen(ids: Ids, snapshot: Snapshot) -> Iterator[Ids]:
    """Those of the ids that it does not see."""
    for xid in snapshot.xip:
        if ids.first <= xid < min(ids.until, snapshot.xmax):
            yield Ids(xid, xid + 1)
    yield from _some(max(ids.first, snapshot.xmax), ids.until)


def _some(first: int, until: int) -> Iterator[Ids]:
    if first < until:
        yield Ids(first, until)
