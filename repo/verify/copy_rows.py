"""Read the rows of `COPY ... TO STDOUT (FORMAT binary)` while they arrive."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_MAX_ROWS = 20_000
_MAX_BYTES = 16_000_000

Handler = Callable[[NDArray[np.void], list[bytes]], None]
"""Takes a batch of rows: their fixed part, and their last columns, which are bytes or text."""


def copy_rows(
    cur: cursor, statement: str, params: Mapping[str, Any], fixed: np.dtype[np.void], take: Handler
) -> None:
    """Pass all rows in batches to `take`, so that memory is bounded.

    `fixed` has the size of all that precedes the last column, including the lengths of columns.
    """
    sink = _Sink(fixed, take)
    cur.copy_expert(cur.mogrify(statement, params), sink)
    sink.flush()


class _Sink:
    """A file into which psycopg2 writes one row at a time, as the server sends them."""

    def __init__(self, fixed: np.dtype[np.void], take: Handler) -> None:
        self._fixed = fixed
        self._take = take
        self._heads: list[bytes] = []
        self._values: list[bytes] = []
        self._bytes = 0

    def write(self, row: bytes) -> int:
        size = self._fixed.itemsize
        data = row.removeprefix(_SIGNATURE)
        if data != _END:
            self._heads.append(data[:size])
            self._values.append(data[size:])
            self._bytes += len(data)
            if len(self._heads) >= _MAX_ROWS or self._bytes >= _MAX_BYTES:
                self.flush()
        return len(row)

    def flush(self) -> None:
        heads, values = self._heads, self._values
        self._heads, self._values, self._bytes = [], [], 0
        if heads:
            self._take(np.frombuffer(b"".join(heads), self._fixed), values)
