"""Sets of users as roaring bitmaps."""

from collections.abc import Iterable, Iterator, Sequence

from pyroaring import BitMap

_NOBODY = BitMap()


def largest(users: int) -> int:
    """How many bytes a set takes at most, of so many users that there are."""
    return min(2 * users, users // 8 + 8192)


def joined(sets: Iterable[BitMap]) -> BitMap:
    return BitMap.union(_NOBODY, *sets)


def rolling(days: Sequence[BitMap], width: int) -> Iterator[int]:
    """For each day, how many are in the union of it and the days before, `width` in all.

    Two unions a day whatever the width: days are cut into blocks, and a window is the end of one
    block and the beginning of the next. Source: van Herk, Gil and Werman's algorithm for maxima.
    """
    before: list[BitMap] = []
    for start in range(0, len(days), width):
        block = days[start : start + width]
        begun = BitMap()
        for at, day in enumerate(block):
            begun |= day
            yield begun.union_cardinality(before[at + 1]) if at + 1 < len(before) else len(begun)
        before.clear()  # each may be large
        before = _ends(block)


def _ends(block: Sequence[BitMap]) -> list[BitMap]:
    """From each day to the end of the block."""
    unions: list[BitMap] = []
    for day in reversed(block):
        unions.append(day | unions[-1] if unions else day)
    return unions[::-1]


def running(days: Sequence[BitMap], firsts: Iterable[bool]) -> Iterator[int]:
    """For each day, how many are in the union of the days since the last first one."""
    union = BitMap()
    for day, first in zip(days, firsts, strict=True):
        union = day.copy() if first else union | day
        yield len(union)
