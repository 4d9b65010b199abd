"""Slots and spans are compared with what is counted anew from the events.

Shares no code with what makes rollups or reads them, so that neither can hide its own mistake.
"""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
from psycopg2.extensions import connection, cursor

from repo.verify.findings import Difference, Findings, NameOf, compare, shown
from repo.verify.kept import kept
from repo.verify.recount import Records, Tally, pieces, recounted
from repo.verify.snapshot import AFTER, FIRST, SQL, Span, State, snapshot
from repo.verify.stored import stored_slots, stored_spans


def chunks(conn: connection) -> list[Span]:
    """All of time in parts: UTC months, and what lies before and after.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        cur.execute(SQL["verify_edges"], {"generation": state.generation})
        edges = [FIRST, *(edge for (edge,) in cur), AFTER]
    return [Span(*pair) for pair in pairwise(edges)]


def verify_chunk(conn: connection, chunk: Span, findings: Findings) -> None:
    """The slots of a part of time, and the spans that begin in it, in one snapshot.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        spans = list(sealed(cur, state, chunk, findings))
        Check(cur, state, findings).verify(chunk, spans)


def sealed(cur: cursor, state: State, chunk: Span, findings: Findings) -> Iterator[Span]:
    """The sealed spans that begin in the chunk; rows of any others are a difference."""
    cur.execute(SQL["verify_sealed"], {"generation": state.generation, **chunk._asdict()})
    for start, end, is_sealed in cur.fetchall():
        span = Span(start, end)
        if is_sealed:
            yield span
        else:
            findings.differs(Difference("spans", shown(span), "rows", "not sealed, so no rows"))


def name_finder(cur: cursor) -> NameOf:
    """Looks names up one by one: few are told, and there may be very many."""

    @cache
    def name_of(name_id: int) -> str | None:
        cur.execute(SQL["verify_name"], {"name_id": name_id})
        row = cur.fetchone()
        return str(row[0]) if row else None

    return name_of


class Check:
    """Of parts of time, within a snapshot."""

    def __init__(self, cur: cursor, state: State, findings: Findings) -> None:
        self._cur = cur
        self._state = state
        self._findings = findings
        self._names = name_finder(cur)

    def verify(self, chunk: Span, spans: list[Span]) -> None:
        """The slots of the chunk, and these spans, which begin in it and may end after it."""
        tallies = {span: Tally() for span in spans}
        end = max([chunk.end, *(span.end for span in spans)])
        for piece in pieces(self._cur, self._state, Span(chunk.start, end), chunk.end):
            records = self._records(piece)
            if piece.end <= chunk.end:
                self._compare_slots(piece, records)
            for span, tally in tallies.items():
                tally.add(records.within(span.shared(piece)))
            over = [span for span in tallies if span.end <= piece.end]
            self._compare_spans({span: tallies.pop(span) for span in over})

    def _records(self, piece: Span) -> Records:
        """What is dropped can only agree with itself."""
        if piece.end <= self._state.horizon:
            return kept(self._cur, self._state, piece)
        return recounted(self._cur, self._state, piece)

    def _compare_slots(self, piece: Span, records: Records) -> None:
        if piece.start >= self._state.horizon:
            self._findings.events += int(records.events.sum())
        stored = stored_slots(self._cur, self._state, piece)
        filled = (Span(slot, slot + 1) for slot in np.unique(records.slots).tolist())
        for slot in sorted({*stored, *filled}):
            tally = Tally()
            tally.add(records.within(slot))
            compare(self._findings, "slots", slot, tally.rows(), stored.get(slot, {}), self._names)

    def _compare_spans(self, tallies: dict[Span, Tally]) -> None:
        stored = stored_spans(self._cur, self._state, tallies)
        for span, tally in tallies.items():
            compare(self._findings, "spans", span, tally.rows(), stored.get(span, {}), self._names)
