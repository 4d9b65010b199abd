"""Stored rows are decoded from the binary format of COPY."""

import struct

from repo.verify.snapshot import Span
from repo.verify.stored_rows import StoredRow, _decode_rows

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def copied(start: int, end: int, name_id: int, events: int, bitmap: bytes) -> bytes:
    numbers = struct.pack("!hiiiiiiiq", 5, 4, start, 4, end, 4, name_id, 8, events)
    return numbers + struct.pack("!i", len(bitmap)) + bitmap


def test_rows_are_grouped_by_span_and_name() -> None:
    rows = [copied(3, 4, 0, 9, b"ab"), copied(3, 4, 7, 2**40, b""), copied(-8, 96, 7, 1, b"c")]
    assert _decode_rows(SIGNATURE + b"".join(rows) + b"\xff\xff") == {
        Span(3, 4): {0: StoredRow(9, b"ab"), 7: StoredRow(2**40, b"")},
        Span(-8, 96): {7: StoredRow(1, b"c")},
    }


def test_no_rows() -> None:
    assert _decode_rows(SIGNATURE + b"\xff\xff") == {}
