"""Read the stored rows of slots and spans, with their bitmaps as bytes."""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from psycopg2.extensions import cursor

from repo.verify.snapshot import SQL, FoldState, Span, copy_out

_SIGNATURE = 19  # bytes before the first row of COPY's binary format
_TRAILER = 2  # bytes that end it
_ROW = struct.Struct("!hiiiiiiiqi")  # length and value of each column; the bitmap follows


class StoredRow(NamedTuple):
    """A row of slots or spans."""

    events: int
    bitmap: bytes


StoredRows = Mapping[Span, Mapping[int, StoredRow]]
"""Rows by span and `name_id`; a slot is a span of length 1."""


def stored_slots(cur: cursor, state: FoldState, piece: Span) -> StoredRows:
    """Return the rows of the slots of a piece."""
    params = {"generation": state.generation, **piece._asdict()}
    return _decode_rows(copy_out(cur, SQL["verify_slots"], params))


def stored_slots_of_name(cur: cursor, state: FoldState, outer: Span, name_id: int) -> StoredRows:
    """Return the rows of one event name in the slots of a range."""
    params = {"generation": state.generation, "name_id": name_id, **outer._asdict()}
    return _decode_rows(copy_out(cur, SQL["verify_slots_of_name"], params))


def stored_spans(cur: cursor, state: FoldState, spans: Iterable[Span]) -> StoredRows:
    """Return the rows of these spans."""
    listed = list(spans)
    params = {
        "generation": state.generation,
        "starts": [span.start for span in listed],
        "ends": [span.end for span in listed],
    }
    return _decode_rows(copy_out(cur, SQL["verify_spans"], params)) if listed else {}


def _decode_rows(data: bytes) -> StoredRows:
    rows: dict[Span, dict[int, StoredRow]] = defaultdict(dict)
    offset, end = _SIGNATURE, len(data) - _TRAILER
    while offset < end:
        _, _, start, _, end_slot, _, name_id, _, events, size = _ROW.unpack_from(data, offset)
        offset += _ROW.size
        rows[Span(start, end_slot)][name_id] = StoredRow(events, data[offset : offset + size])
        offset += size
    return rows
