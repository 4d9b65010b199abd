"""Encode and decode PostgreSQL's binary COPY format, for integers and bytes that are not null.

Source: PostgreSQL's documentation of COPY, section "Binary Format".
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_SIZES = {"h": 2, "i": 4, "q": 8}
_LENGTH = struct.Struct("!i")

ColumnFormat = str
"""One letter for each column: `h`, `i` and `q` are integers of 2, 4 and 8 bytes, `b` is bytes."""


def encode(rows: Iterable[Sequence[Any]], columns: ColumnFormat) -> bytes:
    """Return rows as input of `COPY ... FROM STDIN (FORMAT binary)`; the last column is bytes."""
    # A row is the number of its fields, then the length and the value of each. All integers and the
    # length of the last column have a fixed size, so that one `pack` writes them.
    head = struct.Struct("!h" + "".join(f"i{kind}" for kind in columns[:-1]) + "i")
    fields = [len(columns), *(size for kind in columns[:-1] for size in (_SIZES[kind], 0)), 0]
    parts = [SIGNATURE]
    for *integers, last in rows:
        fields[2:-1:2] = integers
        fields[-1] = len(last)
        parts += (head.pack(*fields), last)
    return b"".join([*parts, _END])


def decode(data: bytes | memoryview, columns: ColumnFormat) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `COPY ... TO STDOUT (FORMAT binary)`; bytes must be the last columns.

    The bytes of a view are views.
    """
    fixed = columns.rstrip("b")
    head = struct.Struct("!h" + "".join(f"i{kind}" for kind in fixed))
    offset, end = len(SIGNATURE), len(data) - len(_END)
    while offset < end:
        _, *fields = head.unpack_from(data, offset)
        offset += head.size
        values = fields[1::2]
        for _ in columns[len(fixed) :]:
            (length,) = _LENGTH.unpack_from(data, offset)
            values.append(data[offset + 4 : offset + 4 + length])
            offset += 4 + length
        yield tuple(values)
