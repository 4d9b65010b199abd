"""The registry of verifiers: one for each store, under the name of the store.

`repo/verify` shares no code with the modules that write or read the stores, so that it does not
repeat their mistakes.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from psycopg2.extensions import connection

from repo.verify.catalogue import verify_catalogue
from repo.verify.columns import ColumnVerifier
from repo.verify.daily_stats import verify_daily_stats
from repo.verify.recount import Records, pieces, recount
from repo.verify.report import Findings
from repo.verify.rollups import SlotVerifier, SpanVerifier
from repo.verify.slot_chunk import Chunk
from repo.verify.slots_before_horizon import retained_records
from repo.verify.snapshot import AFTER, FIRST, SQL, Span, snapshot


class ChunkVerifier(Protocol):
    """Compares what a store holds of a chunk with a recount of the events, piece by piece."""

    end: int
    """The slot up to which events are needed, at least the end of the chunk."""

    def add(self, piece: Span, records: Records) -> None:
        """Take the recount of the next piece, which is within the chunk or after it."""


RECOUNTED: Mapping[str, Callable[[Chunk], ChunkVerifier]] = {
    "columns": ColumnVerifier,
    "slots": SlotVerifier,
    "spans": SpanVerifier,
}
"""Stores that are compared with one recount, by chunks. They outlive dropped events, so each chunk
is verified before its events are dropped."""

INDEPENDENT: Mapping[str, Callable[[connection, Findings, Sequence[str]], None]] = {
    "catalogue": verify_catalogue,
    "daily_stats": verify_daily_stats,
}
"""Stores that are verified by queries of their own, for the declared zones."""


def chunks(conn: connection) -> list[Span]:
    """Return chunks that cover all slots: UTC months, and the times before and after them.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        cur.execute(SQL["verify_edges"], {"generation": state.generation})
        edges = [FIRST, *(edge for (edge,) in cur), AFTER]
    return [Span(*pair) for pair in pairwise(edges)]


def verify_chunk(conn: connection, span: Span, findings: Findings) -> None:
    """Verify what all recounted stores hold of a chunk, in one snapshot.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        recount_chunk(Chunk(cur, state, span, findings))


def recount_chunk(chunk: Chunk) -> None:
    """Recount the events of a chunk and compare all recounted stores with them."""
    verifiers = [verifier(chunk) for verifier in RECOUNTED.values()]
    # Events are read once, for all stores.
    outer = Span(chunk.span.start, max(verifier.end for verifier in verifiers))
    for piece in pieces(chunk.cur, chunk.state, outer, chunk.span.end):
        records = _records(chunk, piece)
        for verifier in verifiers:
            verifier.add(piece, records)


def _records(chunk: Chunk, piece: Span) -> Records:
    """Return the recount of a piece, or the retained rows before the horizon."""
    if piece.end <= chunk.state.horizon:
        return retained_records(chunk.cur, chunk.state, piece)
    records = recount(chunk.cur, chunk.state, piece)
    if piece.end <= chunk.span.end:
        chunk.findings.events += int(records.events.sum())
    return records


def verify_independent(conn: connection, findings: Findings, zones: Sequence[str]) -> None:
    """Verify all stores that are not recounted. Raises: Unverifiable, DatabaseUnavailable."""
    for verify in INDEPENDENT.values():
        verify(conn, findings, zones)
