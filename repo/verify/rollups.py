"""Verify slots and spans, given a recount of their events."""

from collections.abc import Iterator

import numpy as np

from repo.verify.recount import Records, Recount
from repo.verify.report import Difference, format_span
from repo.verify.slot_chunk import Chunk
from repo.verify.snapshot import SQL, Span
from repo.verify.stored_rows import stored_slots, stored_spans


class SlotVerifier:
    """Verifies the slots of a chunk."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self.end = chunk.span.end

    def add(self, piece: Span, records: Records) -> None:
        """Compare the slots of a piece."""
        if piece.end > self.end:
            return
        stored = stored_slots(self._chunk.cur, self._chunk.state, piece)
        nonempty = (Span(slot, slot + 1) for slot in np.unique(records.slots).tolist())
        for slot in sorted({*stored, *nonempty}):
            expected = Recount()
            expected.add(records.of_span(slot))
            self._chunk.compare("slots", slot, expected, stored.get(slot, {}))


class SpanVerifier:
    """Verifies the sealed spans that begin in a chunk, and may end after it."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._recounts = {span: Recount() for span in _sealed_spans(chunk)}
        self.end = max([chunk.span.end, *(span.end for span in self._recounts)])

    def add(self, piece: Span, records: Records) -> None:
        """Add a piece to the recounts, and compare the spans that end in it."""
        for span, recount in self._recounts.items():
            recount.add(records.of_span(span.intersection(piece)))
        ended = [span for span in self._recounts if span.end <= piece.end]
        stored = stored_spans(self._chunk.cur, self._chunk.state, ended)
        for span in ended:
            self._chunk.compare("spans", span, self._recounts.pop(span), stored.get(span, {}))


def _sealed_spans(chunk: Chunk) -> Iterator[Span]:
    """Yield the sealed spans to verify; rows of other spans are differences."""
    params = {"generation": chunk.state.generation, **chunk.span._asdict()}
    chunk.cur.execute(SQL["verify_sealed"], params)
    for start, end, is_sealed in chunk.cur.fetchall():
        span = Span(start, end)
        if not is_sealed:
            difference = (format_span(span), "rows", "none, as it is not sealed")
            chunk.findings.add(Difference("spans", *difference))
        elif span.end <= chunk.span.end or not chunk.is_sample:
            yield span
