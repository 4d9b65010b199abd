"""Ids of events that have none: derived from values of the row, or from the row as a whole.

The same row gets the same id whenever it is loaded, so that a repeated load stores it once.
"""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import sha1

import msgspec

# The namespace of derived ids; any other would store rows that are loaded again a second time.
NAMESPACE = bytes.fromhex("6f0a2c1e9d3b5f47a8c1d2e3f4051627")
_MIN_SLOTS = 2**16  # a power of two

_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_encode = msgspec.json.Encoder().encode


def derived_id(name: bytes) -> str:
    """The UUID of version 5 of a name in our namespace."""
    digits = sha1(NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = _VARIANTS[digits[16]]
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

    def numbers(self, digests: Sequence[bytes]) -> list[int]:
        """The numbers of the next rows, given their digests."""
        while (self._used + len(digests)) * 4 > len(self._table) * 3:
            self._grow()
        # One loop without calls: this is a fifth of the time of loading rows without ids.
        table, mask, counts = self._table, len(self._table) - 1, self._counts
        numbers = []
        for digest in digests:
            key = int.from_bytes(digest[:8], "big") or 1  # 0 is an empty slot
            at = key & mask
            while (present := table[at]) and present != key:
                at = (at + 1) & mask
            if present:
                counts[key] = number = counts.get(key, 0) + 1
            else:
                table[at], number = key, 0
                self._used += 1
            numbers.append(number)
        return numbers

    def _grow(self) -> None:
        before, size = self._table, 2 * len(self._table)
        table, mask = array("Q", (0,)) * size, size - 1
        for key in filter(None, before):
            at = key & mask
            while table[at]:
                at = (at + 1) & mask
            table[at] = key
        self._table = table

    def ids_of(self, rows: Iterable[bytes]) -> list[str]:
        """The ids of rows: each is made of its text, and of its number among equal rows."""
        digests = [sha1(row, usedforsecurity=False).digest() for row in rows]
        return list(map(_row_id, digests, self.numbers(digests)))


def id_of_row(row: bytes) -> str:
    """The id of a row which is the same for all equal rows."""
    return _row_id(sha1(row, usedforsecurity=False).digest(), 0)


def _row_id(digest: bytes, number: int) -> str:
    return derived_id(b"row" + digest + (b"%d" % number if number else b""))
