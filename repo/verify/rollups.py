"""Verify slots and spans by recounting them from the events.

This shares no code with the modules that write or read rollups, so that it does not repeat their
mistakes.
"""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
from psycopg2.extensions import connection, cursor

from repo.verify.dropped_slots import retained_records
from repo.verify.recount import Records, Recount, pieces, recount
from repo.verify.report import Difference, Findings, NameOf, compare, format_span
from repo.verify.snapshot import AFTER, FIRST, SQL, FoldState, Span, snapshot
from repo.verify.stored_rows import stored_slots, stored_spans


def chunks(conn: connection) -> list[Span]:
    """Return chunks that cover all slots: UTC months, and the times before and after them.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        cur.execute(SQL["verify_edges"], {"generation": state.generation})
        edges = [FIRST, *(edge for (edge,) in cur), AFTER]
    return [Span(*pair) for pair in pairwise(edges)]


def verify_chunk(conn: connection, chunk: Span, findings: Findings) -> None:
    """Verify the slots of a chunk and the spans that begin in it, in one snapshot.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        spans = list(sealed_spans(cur, state, chunk, findings))
        Verifier(cur, state, findings).verify(chunk, spans)


def sealed_spans(cur: cursor, state: FoldState, chunk: Span, findings: Findings) -> Iterator[Span]:
    """Yield the sealed spans that begin in the chunk; rows of other spans are differences."""
    cur.execute(SQL["verify_sealed"], {"generation": state.generation, **chunk._asdict()})
    for start, end, is_sealed in cur.fetchall():
        span = Span(start, end)
        if is_sealed:
            yield span
        else:
            findings.add(
                Difference("spans", format_span(span), "rows", "none, as it is not sealed")
            )


def name_finder(cur: cursor) -> NameOf:
    """Return a function that looks up event names."""

    # One by one: few names are listed, and the dictionary may be very large.
    @cache
    def name_of(name_id: int) -> str | None:
        cur.execute(SQL["verify_name"], {"name_id": name_id})
        row = cur.fetchone()
        return str(row[0]) if row else None

    return name_of


class Verifier:
    """Verifies chunks within a snapshot."""

    def __init__(self, cur: cursor, state: FoldState, findings: Findings) -> None:
        self._cur = cur
        self._state = state
        self._findings = findings
        self._name_of = name_finder(cur)

    def verify(self, chunk: Span, spans: list[Span]) -> None:
        """Verify the slots of a chunk, and spans that begin in it and may end after it."""
        recounts = {span: Recount() for span in spans}
        # Events are read once, piece by piece, and counted for each span that contains them.
        end = max([chunk.end, *(span.end for span in spans)])
        for piece in pieces(self._cur, self._state, Span(chunk.start, end), chunk.end):
            records = self._records(piece)
            if piece.end <= chunk.end:
                self._compare_slots(piece, records)
            for span, span_recount in recounts.items():
                span_recount.add(records.of_span(span.intersection(piece)))
            finished = [span for span in recounts if span.end <= piece.end]
            self._compare_spans({span: recounts.pop(span) for span in finished})

    def _records(self, piece: Span) -> Records:
        """Return the recount of a piece, or the retained rows before the horizon."""
        if piece.end <= self._state.horizon:
            return retained_records(self._cur, self._state, piece)
        return recount(self._cur, self._state, piece)

    def _compare_slots(self, piece: Span, records: Records) -> None:
        if piece.start >= self._state.horizon:
            self._findings.events += int(records.events.sum())
        stored = stored_slots(self._cur, self._state, piece)
        nonempty = (Span(slot, slot + 1) for slot in np.unique(records.slots).tolist())
        for slot in sorted({*stored, *nonempty}):
            slot_recount = Recount()
            slot_recount.add(records.of_span(slot))
            compare(
                self._findings,
                "slots",
                slot,
                slot_recount.rows(),
                stored.get(slot, {}),
                self._name_of,
            )

    def _compare_spans(self, recounts: dict[Span, Recount]) -> None:
        stored = stored_spans(self._cur, self._state, recounts)
        for span, span_recount in recounts.items():
            compare(
                self._findings,
                "spans",
                span,
                span_recount.rows(),
                stored.get(span, {}),
                self._name_of,
            )
