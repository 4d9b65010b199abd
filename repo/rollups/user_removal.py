"""Remove a user from slots and from the sealed spans that contain them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.engine.bitmaps import max_bytes
from repo.engine.planner import cover
from repo.engine.watermark import read_user_count
from repo.rollups.aggregate import ALL, Delta, Key
from repo.rollups.bitmap_store import (
    copy_out,
    read_sealed_spans,
    read_slots,
    read_spans,
    span_params,
    write_slots,
    write_spans,
)
from repo.statements import statements
from utils.copy_binary import decode
from utils.time.slots import Span, months_in

SQL = statements("erase")

K = TypeVar("K")

# How many rows are in memory at a time: as many as have sets of 32 MB together, within these
# limits.
_MIN_COUNTS, _MAX_COUNTS = 500, 20_000
_MAX_SET_BYTES = 32 * 2**20

NO_ORDINAL = 0
"""Stands for a user without an ordinal; no set contains it."""


@dataclass(slots=True)
class RemovalResult:
    """The slots and spans whose rows were changed."""

    slots: set[int] = field(default_factory=set)
    spans: set[Span] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class UserRemoval:
    """The removal of one user from a generation; changed spans get `version`."""

    cur: cursor
    generation: int
    version: int
    ordinal: int

    def remove(self, counts: Iterable[tuple[Key, int]]) -> RemovalResult:
        """Subtract the user's events from slots and spans, and remove the user from their sets.

        `counts` are the user's events by slot and name, in the order of slots; 0 if unknown because
        they were dropped. They must be all events of the user in these slots.
        """
        result, remaining, limit = RemovalResult(), iter(counts), self._max_counts()
        while part := dict(islice(remaining, limit)):
            self.cur.execute(SQL["erase_clear_staging"])
            result.slots |= self._remove_from_slots(part)
            result.spans |= self._remove_from_spans(part)
        return result

    def _max_counts(self) -> int:
        fitting = _MAX_SET_BYTES // (max_bytes(read_user_count(self.cur)) or 1)
        return min(max(_MIN_COUNTS, fitting), _MAX_COUNTS)

    def slots_of_user(self, outer: Span) -> Iterator[int]:
        """Yield the slots whose sets contain the user, in order."""
        # Months whose set lacks the user need not be searched slot by slot.
        sealed = set(read_sealed_spans(self.cur, self.generation, outer))
        months, gaps = cover(outer, [months_in], sealed.__contains__)
        for span in sorted([*self._with_user(months), *gaps]):
            params = {"generation": self.generation, **span._asdict()}
            for slot, users in decode(
                copy_out(self.cur, SQL["erase_user_sets_of_slots"], params), "ib"
            ):
                if self.ordinal in BitMap.deserialize(users):
                    yield slot

    def _with_user(self, months: Iterable[Span]) -> Iterator[Span]:
        params = {"generation": self.generation, **span_params(months)}
        for *span, users in decode(
            copy_out(self.cur, SQL["erase_user_sets_of_spans"], params), "iib"
        ):
            if self.ordinal in BitMap.deserialize(users):
                yield Span(*span)

    def _remove_from_slots(self, counts: Mapping[Key, int]) -> set[int]:
        rows = read_slots(self.cur, self.generation, sorted({slot for slot, _ in counts}))
        stored = ((key, Delta(events, BitMap.deserialize(users))) for key, events, users in rows)
        changed = self._subtract(stored, counts)
        write_slots(self.cur, self.generation, _filled(changed))
        emptied = _emptied(changed)
        params = {"slots": [slot for slot, _ in emptied], "name_ids": [name for _, name in emptied]}
        self.cur.execute(SQL["erase_delete_slots"], {"generation": self.generation, **params})
        return {slot for slot, _ in changed}

    def _remove_from_spans(self, counts: Mapping[Key, int]) -> set[Span]:
        counts_by_span = self._counts_by_span(counts)
        rows_by_span = read_spans(self.cur, self.generation, list(counts_by_span))
        changed = {
            span: self._subtract(rows_by_span[span].items(), counts_by_span[span])
            for span in counts_by_span
        }
        changed = {span: rows for span, rows in changed.items() if rows}
        if changed:
            filled = {span: _filled(rows) for span, rows in changed.items()}
            write_spans(self.cur, self.generation, self.version, filled)
        emptied = [(span, name) for span, rows in changed.items() for name in _emptied(rows)]
        params = {
            **span_params(span for span, _ in emptied),
            "name_ids": [name for _, name in emptied],
        }
        self.cur.execute(SQL["erase_delete_spans"], {"generation": self.generation, **params})
        return set(changed)

    def _counts_by_span(self, counts: Mapping[Key, int]) -> dict[Span, Counter[int]]:
        """Return, by sealed span over these slots, the number of events to subtract by name."""
        keys_in_order = sorted(counts)
        touched = Span(keys_in_order[0][0], keys_in_order[-1][0] + 1)
        counts_by_span: dict[Span, Counter[int]] = {}
        for span in read_sealed_spans(self.cur, self.generation, touched):
            first, end = (bisect_left(keys_in_order, (edge, ALL)) for edge in span)
            for slot, name_id in keys_in_order[first:end]:
                counts_by_span.setdefault(span, Counter())[name_id] += counts[slot, name_id]
        return counts_by_span

    def _subtract(self, rows: Iterable[tuple[K, Delta]], events: Mapping[K, int]) -> dict[K, Delta]:
        """Return the rows that change, with their new contents."""
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
