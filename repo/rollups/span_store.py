"""The store of spans: hours, days and months that are over, each the union of its slots."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from repo.rollups.aggregate import ALL, Batch, Delta, Key
from repo.rollups.bitmap_rows import (
    read_sealed_spans,
    read_spans,
    span_params,
    sum_by_name,
    write_spans,
)
from repo.rollups.fold_state import Progress
from repo.rollups.seal import due_spans, next_spans, seal, sealable_range
from repo.rollups.store import Horizon, Store
from repo.rollups.subtract_user import ErasedGeneration, ErasedUser, emptied, filled, subtract
from repo.statements import statements
from utils.time.slots import Span

ERASE = statements("erase")


class SpanStore(Store):
    """Sealed spans; it remembers which ones are due, since the search takes long."""

    name = unit = "spans"
    tables = ("spans", "sealed_spans")

    def __init__(self, zones: Sequence[ZoneInfo]) -> None:
        super().__init__(zones)
        self._searched: dict[int, Span] = {}
        self._due: dict[int, list[Span]] = {}

    def apply(self, cur: cursor, progress: Progress, batch: Batch) -> None:
        """Add late events to the sealed spans over their slots."""
        late = _late_rows(cur, progress.generation, batch.deltas)
        if late:
            progress.sealed_version = progress.version
            write_spans(cur, progress.generation, progress.version, late)

    def seal(self, cur: cursor, progress: Progress) -> int:
        spans = self._next_spans(cur, progress)
        if spans:
            seal(cur, progress, spans)
            self._due[progress.generation] = self._due[progress.generation][len(spans) :]
        return len(spans)

    def _next_spans(self, cur: cursor, progress: Progress) -> Sequence[Span]:
        """Return the spans to seal in this transaction."""
        # The search runs only after the range that can be sealed has grown.
        generation, sealable = progress.generation, sealable_range(progress)
        if (
            sealable
            and not self._due.get(generation)
            and self._searched.get(generation) != sealable
        ):
            self._due[generation] = due_spans(cur, generation, sealable, self._zones)
            self._searched[generation] = sealable
        return next_spans(cur, generation, self._due.get(generation, []))

    def erase(self, cur: Cursor, user: ErasedUser) -> int:
        return sum(_erase(cur, user, generation) for generation in user.generations)

    def drop_before(self, cur: Cursor, horizon: Horizon) -> None:
        """Do nothing: spans count dropped events as long as their slots do."""

    def rebuild(self, cur: cursor, progress: Progress) -> None:
        """Do nothing: the spans of a new generation are sealed from its slots."""

    def maintain(self, conn: connection, *, is_lazy: bool) -> int:
        return 0


def _late_rows(
    cur: cursor, generation: int, deltas: Mapping[Key, Delta]
) -> dict[Span, dict[int, Delta]]:
    """Return the new contents of the rows of sealed spans that these deltas change."""
    late: dict[Span, dict[int, Delta]] = {}
    for span, keys in _keys_by_span(cur, generation, deltas).items():
        late[span] = sum_by_name((name_id, deltas[slot, name_id]) for slot, name_id in keys)
    for span, names in read_spans(cur, generation, list(late)).items() if late else ():
        for name_id, stored in names.items():
            if delta := late[span].get(name_id):
                delta.add(stored.events, stored.users)
    return late


def _keys_by_span(cur: cursor, generation: int, keys: Iterable[Key]) -> dict[Span, list[Key]]:
    """Return those of these keys that are in sealed spans, by span."""
    # Sorted, so that the keys within a span are found by bisection.
    in_order = sorted(keys)
    touched = Span(in_order[0][0], in_order[-1][0] + 1)
    keys_by_span = {}
    for span in read_sealed_spans(cur, generation, touched):
        first, end = (bisect_left(in_order, (edge, ALL)) for edge in span)
        if first < end:
            keys_by_span[span] = in_order[first:end]
    return keys_by_span


def _erase(cur: Cursor, user: ErasedUser, generation: ErasedGeneration) -> int:
    changed: set[Span] = set()
    for counts in generation.counts.parts(user.part_size):
        changed |= _subtract(cur, generation, user.ordinal, counts)
    generation.has_changed_spans = bool(changed)
    return len(changed)


def _subtract(
    cur: cursor, generation: ErasedGeneration, ordinal: int, counts: Mapping[Key, int]
) -> set[Span]:
    """Subtract events and remove the user; return the spans whose rows were changed."""
    number = generation.generation
    keys_by_span = _keys_by_span(cur, number, counts)
    changed = {}
    for span, rows in read_spans(cur, number, list(keys_by_span)).items():
        events = Counter[int]()
        for slot, name_id in keys_by_span[span]:
            events[name_id] += counts[slot, name_id]
        if rows_without := subtract(rows.items(), events, ordinal):
            changed[span] = rows_without
    if changed:
        rows_left = {span: filled(rows) for span, rows in changed.items()}
        write_spans(cur, number, generation.version, rows_left)
    _delete_rows(cur, number, [(s, n) for s, rows in changed.items() for n in emptied(rows)])
    return set(changed)


def _delete_rows(cur: cursor, generation: int, keys: Sequence[tuple[Span, int]]) -> None:
    params = {
        "generation": generation,
        **span_params(span for span, _ in keys),
        "name_ids": [name_id for _, name_id in keys],
    }
    cur.execute(ERASE["erase_delete_spans"], params)
