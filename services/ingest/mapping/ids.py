"""Ids of events that have none: derived from values of the row, or from the row as a whole.

The same row gets the same id whenever it is loaded, so that a repeated load stores it once.
"""

from array import array
from collections.abc import Sequence
from hashlib import sha1

import msgspec

# The namespace of derived ids; any other would store rows that are loaded again a second time.
NAMESPACE = bytes.fromhex("6f0a2c1e9d3b5f47a8c1d2e3f4051627")
_MIN_SLOTS = 2**16  # a power of two

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

    Different rows have no influence on each other, so a row has its id also in a file with other
    rows, or with rows in another order. A row takes 8 bytes of a hash table with open addressing:
    a set of digests would take ten times as much.
    """

    def __init__(self) -> None:
        self._table = array("Q", (0,)) * _MIN_SLOTS
        self._used = 0
        self._counts: dict[int, int] = {}
        """By key of a row: how many equal rows came before, if any did."""

    def number(self, row: bytes) -> int:
        """The number of a row, given its digest."""
        key = int.from_bytes(row[:8], "big") or 1  # 0 is an empty slot
        if self._add(key):
            if self._used * 4 > len(self._table) * 3:
                self._grow()
            return 0
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return count

    def _add(self, key: int) -> bool:
        """Add a key to the table; return whether it is new."""
        table, mask = self._table, len(self._table) - 1
        at = key & mask
        while present := table[at]:
            if present == key:
                return False
            at = (at + 1) & mask
        table[at] = key
        self._used += 1
        return True

    def _grow(self) -> None:
        before = self._table
        self._table, self._used = array("Q", (0,)) * (2 * len(before)), 0
        for key in before:
            if key:
                self._add(key)

    def id_of(self, row: bytes) -> str:
        """The id of a row: that of its text, and of its number among equal rows."""
        digest = sha1(row, usedforsecurity=False).digest()
        number = self.number(digest)
        return derived_id(b"row" + digest + (str(number).encode() if number else b""))
