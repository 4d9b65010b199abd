"""Subtract a user to erase from rows of rollups: the ordinal from the sets, events from counts."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.engine.bitmaps import max_bytes
from repo.engine.plan import cover
from repo.rollups.aggregate import Delta, Key
from repo.rollups.bitmap_rows import copy_out, read_sealed_spans, span_params
from repo.statements import statements
from utils.copy_binary import decode
from utils.time.slots import Span, months_in

SQL = statements("erase")

K = TypeVar("K")

# The number of rows in memory at a time: as many as have sets of 32 MB together, within these
# limits.
_MIN_COUNTS, _MAX_COUNTS = 500, 20_000
_MAX_SET_BYTES = 32 * 2**20

NO_ORDINAL = 0
"""Stands for a user without an ordinal; no set contains it."""


class UserCounts:
    """The number of events of a user by slot and name, in the order of slots.

    It is 0 where it is unknown because the events were dropped.
    """

    def __init__(self, counts: Iterable[tuple[Key, int]] = ()) -> None:
        # Arrays, since a user may have events in millions of slots.
        self._slots, self._names, self._events = array("i"), array("i"), array("q")
        for (slot, name_id), events in counts:
            self._slots.append(slot)
            self._names.append(name_id)
            self._events.append(events)

    def parts(self, size: int) -> Iterator[dict[Key, int]]:
        """Yield the counts in parts of this size."""
        for start in range(0, len(self._slots), size):
            part = slice(start, start + size)
            keys = zip(self._slots[part], self._names[part], strict=True)
            yield dict(zip(keys, self._events[part], strict=True))


@dataclass(slots=True)
class ErasedGeneration:
    """A generation of this cluster, with the user's events in it."""

    generation: int
    is_current: bool
    first_slot: int | None
    version: int
    """The version of the rows that the erasure changes."""
    counts: UserCounts = field(default_factory=UserCounts)
    has_changed_spans: bool = False
    """Whether rows of sealed spans were changed."""


@dataclass(slots=True)
class ErasedUser:
    """A user to erase. Stores know users by their ordinals only."""

    erasure: int
    """The number of the receipt."""
    ordinal: int
    part_size: int
    """How many rows of slots may be in memory at a time."""
    generations: Sequence[ErasedGeneration]
    dropped_slots: set[int] = field(default_factory=set)
    """The slots before the horizon whose sets contain the user."""
    event_slots: set[int] = field(default_factory=set)
    """The slots of the deleted events, including events that were not folded."""
    is_in_columns: bool = False
    """Whether the columns have to be rewritten without the user."""

    @property
    def changed_slots(self) -> set[int]:
        """The slots whose counts or sets change."""
        return self.dropped_slots | self.event_slots


def part_size(user_count: int) -> int:
    """Return how many rows may be in memory at a time, if each may have all users."""
    fitting = _MAX_SET_BYTES // (max_bytes(user_count) or 1)
    return min(max(_MIN_COUNTS, fitting), _MAX_COUNTS)


def slots_of_user(cur: cursor, generation: int, ordinal: int, outer: Span) -> Iterator[int]:
    """Yield the slots whose sets contain the user, in order."""
    # Months whose set lacks the user need not be searched slot by slot.
    sealed = set(read_sealed_spans(cur, generation, outer))
    months, gaps = cover(outer, [months_in], sealed.__contains__)
    for span in sorted([*_with_user(cur, generation, ordinal, months), *gaps]):
        params = {"generation": generation, **span._asdict()}
        for slot, users in decode(copy_out(cur, SQL["erase_user_sets_of_slots"], params), "ib"):
            if ordinal in BitMap.deserialize(users):
                yield slot


def _with_user(
    cur: cursor, generation: int, ordinal: int, months: Iterable[Span]
) -> Iterator[Span]:
    params = {"generation": generation, **span_params(months)}
    for *span, users in decode(copy_out(cur, SQL["erase_user_sets_of_spans"], params), "iib"):
        if ordinal in BitMap.deserialize(users):
            yield Span(*span)


def subtract(
    rows: Iterable[tuple[K, Delta]], events: Mapping[K, int], ordinal: int
) -> dict[K, Delta]:
    """Return the rows that change without the user and these events, with their new contents."""
    changed = {}
    for key, row in rows:
        if events.get(key) or ordinal in row.users:
            row.events -= events.get(key, 0)
            row.users.discard(ordinal)
            changed[key] = row
    return changed


def filled(rows: Mapping[K, Delta]) -> dict[K, Delta]:
    """Return the rows that have events left."""
    return {key: row for key, row in rows.items() if row.events > 0}


def emptied(rows: Mapping[K, Delta]) -> list[K]:
    """Return the keys of rows that have no events left."""
    return [key for key, row in rows.items() if row.events <= 0]
