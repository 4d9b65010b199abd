"""Ids of events that have none: derived from values of the row, or from the row as a whole.

The same row gets the same id whenever it is loaded, so that a repeated load stores it once.
"""

from collections.abc import Sequence
from hashlib import sha1

import msgspec

# The namespace of derived ids; any other would store rows that are loaded again a second time.
NAMESPACE = bytes.fromhex("6f0a2c1e9d3b5f47a8c1d2e3f4051627")
_FILTER_BITS = 29  # 64 MB: one in 50 of 10 million rows is then remembered by itself
_FILTER_MASK = 2**_FILTER_BITS - 1

_encode = msgspec.json.Encoder().encode


def derived_id(name: bytes) -> str:
    """The UUID of version 5 of a name in our namespace."""
    digits = sha1(NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def id_of_keys(name: str, keys: Sequence[str], texts: Sequence[str | None]) -> str:
    """The id of an event that is identified by the values of these keys.

    The name of the event is part of it, since rows of two tables may have the same key.
    """
    return derived_id(_encode([name, keys, texts]))


class RowNumbers:
    """Numbers equal rows of a file: 0, 1, 2, ... in the order of the file.

    Most rows are unique, so only one bit of a row is stored when it first comes. A row whose bit is
    set by another row starts with 1, which is as good: the numbers of equal rows differ, and they
    depend only on the rows before.
    """

    def __init__(self) -> None:
        self._seen = bytearray(2**_FILTER_BITS // 8)
        self._counts: dict[bytes, int] = {}

    def number(self, row: bytes) -> int:
        """The number of a row, given its digest."""
        at = int.from_bytes(row[:8], "big") & _FILTER_MASK
        byte, bit = at >> 3, 1 << (at & 7)
        if not self._seen[byte] & bit:
            self._seen[byte] |= bit
            return 0
        self._counts[row] = count = self._counts.get(row, 0) + 1
        return count

    def id_of(self, row: bytes) -> str:
        """The id of a row: that of its text, and of its number among equal rows."""
        digest = sha1(row, usedforsecurity=False).digest()
        number = self.number(digest)
        return derived_id(b"row" + digest + (str(number).encode() if number else b""))
