"""PostgreSQL's binary COPY, as far as rollups need it: integers and bytes, none of them null.

Source: PostgreSQL's documentation of COPY, "Binary Format".
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_SIZES = {"i": 4, "q": 8}
_LENGTH = struct.Struct("!i")

Format = str
"""A letter for each column: i and q are integers of 4 and 8 bytes, b is bytes."""


def encode(rows: Iterable[Sequence[Any]], columns: Format) -> bytes:
    """What COPY ... FROM STDIN (FORMAT binary) takes; bytes must be the last column."""
    head = struct.Struct("!h" + "".join(f"i{kind}" for kind in columns[:-1]) + "i")
    fields = [len(columns), *(size for kind in columns[:-1] for size in (_SIZES[kind], 0)), 0]
    parts = [SIGNATURE]
    for *integers, last in rows:
        fields[2:-1:2] = integers
        fields[-1] = len(last)
        parts += (head.pack(*fields), last)
    return b"".join([*parts, _END])


def decode(sent: bytes, columns: Format) -> Iterator[tuple[Any, ...]]:
    """The rows that COPY ... TO STDOUT (FORMAT binary) gave; bytes must be the last columns."""
    fixed = columns.rstrip("b")
    head = struct.Struct("!h" + "".join(f"i{kind}" for kind in fixed))
    at, end = len(SIGNATURE), len(sent) - len(_END)
    while at < end:
        _, *fields = head.unpack_from(sent, at)
        at += head.size
        values = fields[1::2]
        for _ in columns[len(fixed) :]:
            (length,) = _LENGTH.unpack_from(sent, at)
            values.append(sent[at + 4 : at + 4 + length])
            at += 4 + length
        yield tuple(values)
