"""Taking a user out of slots and of the sealed spans over them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.rollups.batch import ALL, Delta, Key
from repo.rollups.binary import decode
from repo.rollups.state import read_users
from repo.rollups.tables import (
    copied,
    edges,
    read_slots,
    read_spans,
    sealed_in,
    write_slots,
    write_spans,
)
from repo.statements import statements
from utils.bitmaps import largest
from utils.plans import covered
from utils.slots import Span, months_in

SQL = statements("erase")

K = TypeVar("K")

_LEAST, _MOST = 500, 20_000
"""Counts whose rows are in memory together: more where sets of users can only be small."""
_BYTES = 32 * 2**20
"""What their sets may take, where they are more than the least."""

NOBODY = 0
"""The ordinal of whom no set of users holds."""


@dataclass(slots=True)
class Taken:
    """What was changed."""

    slots: set[int] = field(default_factory=set)
    spans: set[Span] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Taking:
    """Who is taken out, of which generation, and the version of what is changed by it."""

    cur: cursor
    generation: int
    version: int
    ordinal: int

    def take(self, counts: Iterable[tuple[Key, int]]) -> Taken:
        """Events of the user that rows of slots hold, in order of slots; 0 where nobody knows.

        All events of the user are taken, so the user goes from each row of these slots.
        """
        taken, given, most = Taken(), iter(counts), self._most()
        while part := dict(islice(given, most)):
            self.cur.execute(SQL["erase_part"])
            taken.slots |= self._take_from_slots(part)
            taken.spans |= self._take_from_spans(part)
        return taken

    def _most(self) -> int:
        fitting = _BYTES // (largest(read_users(self.cur)) or 1)
        return min(max(_LEAST, fitting), _MOST)

    def slots_before(self, whole: Span) -> Iterator[int]:
        """The slots whose sets of users hold this one, in order."""
        sealed = set(sealed_in(self.cur, self.generation, whole))
        months, gaps = covered(whole, [months_in], sealed.__contains__)
        for span in sorted([*self._with_user(months), *gaps]):
            given = {"generation": self.generation, **span._asdict()}
            for slot, users in decode(copied(self.cur, SQL["erase_sets_of_slots"], given), "ib"):
                if self.ordinal in BitMap.deserialize(users):
                    yield slot

    def _with_user(self, months: Iterable[Span]) -> Iterator[Span]:
        given = {"generation": self.generation, **edges(months)}
        for *span, users in decode(copied(self.cur, SQL["erase_sets_of_spans"], given), "iib"):
            if self.ordinal in BitMap.deserialize(users):
                yield Span(*span)

    def _take_from_slots(self, counts: Mapping[Key, int]) -> set[int]:
        rows = read_slots(self.cur, self.generation, sorted({slot for slot, _ in counts}))
        there = ((key, Delta(n, BitMap.deserialize(users))) for key, n, users in rows)
        changed = self._lessened(there, counts)
        write_slots(self.cur, self.generation, _filled(changed))
        emptied = _emptied(changed)
        given = {"slots": [slot for slot, _ in emptied], "names": [name for _, name in emptied]}
        self.cur.execute(SQL["erase_slots"], {"generation": self.generation, **given})
        return {slot for slot, _ in changed}

    def _take_from_spans(self, counts: Mapping[Key, int]) -> set[Span]:
        over = self._over(counts)
        read = read_spans(self.cur, self.generation, list(over))
        changed = {span: self._lessened(read[span].items(), over[span]) for span in over}
        changed = {span: rows for span, rows in changed.items() if rows}
        if changed:
            filled = {span: _filled(rows) for span, rows in changed.items()}
            write_spans(self.cur, self.generation, self.version, filled)
        emptied = [(span, name) for span, rows in changed.items() for name in _emptied(rows)]
        given = {**edges(span for span, _ in emptied), "names": [name for _, name in emptied]}
        self.cur.execute(SQL["erase_spans"], {"generation": self.generation, **given})
        return set(changed)

    def _over(self, counts: Mapping[Key, int]) -> dict[Span, Counter[int]]:
        """The sealed spans over these slots, and how many events of each name go from them."""
        ordered = sorted(counts)
        reach = Span(ordered[0][0], ordered[-1][0] + 1)
        over: dict[Span, Counter[int]] = {}
        for span in sealed_in(self.cur, self.generation, reach):
            first, end = (bisect_left(ordered, (edge, ALL)) for edge in span)
            for slot, name_id in ordered[first:end]:
                over.setdefault(span, Counter())[name_id] += counts[slot, name_id]
        return over

    def _lessened(self, rows: Iterable[tuple[K, Delta]], events: Mapping[K, int]) -> dict[K, Delta]:
        """Those that change, as they are then."""
        changed = {}
        for key, row in rows:
            if events.get(key) or self.ordinal in row.users:
                row.events -= events.get(key, 0)
                row.users.discard(self.ordinal)
                changed[key] = row
        return changed


def _filled(rows: Mapping[K, Delta]) -> dict[K, Delta]:
    return {key: row for key, row in rows.items() if row.events > 0}


def _emptied(rows: Mapping[K, Delta]) -> list[K]:
    return [key for key, row in rows.items() if row.events <= 0]
