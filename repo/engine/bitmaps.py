"""Sets of users as roaring bitmaps."""

from collections.abc import Iterable, Iterator, Sequence

from pyroaring import BitMap

_EMPTY = BitMap()


def max_bytes(users: int) -> int:
    """How many bytes a set takes at most, of so many users that there are."""
    return min(2 * users, users // 8 + 8192)


def union_of(sets: Iterable[BitMap]) -> BitMap:
    return BitMap.union(_EMPTY, *sets)


def rolling_counts(days: Sequence[BitMap], width: int) -> Iterator[int]:
    """For each day, how many are in the union of it and the days before, `width` in all.

    Two unions a day whatever the width: days are cut into blocks, and a window is the end of one
    block and the beginning of the next. Source: van Herk, Gil and Werman's algorithm for maxima.
    """
    suffix_unions: list[BitMap] = []
    for start in range(0, len(days), width):
        block = days[start : start + width]
        running_union = BitMap()
        for index, day in enumerate(block):
            running_union |= day
            yield (
                running_union.union_cardinality(suffix_unions[index + 1])
                if index + 1 < len(suffix_unions)
                else len(running_union)
            )
        suffix_unions.clear()  # each may be large
        suffix_unions = _suffix_unions(block)


def _suffix_unions(block: Sequence[BitMap]) -> list[BitMap]:
    """From each day to the end of the block."""
    unions: list[BitMap] = []
    for day in reversed(block):
        unions.append(day | unions[-1] if unions else day)
    return unions[::-1]


def running_counts(days: Sequence[BitMap], firsts: Iterable[bool]) -> Iterator[int]:
    """For each day, how many are in the union of the days since the last first one."""
    union = BitMap()
    for day, first in zip(days, firsts, strict=True):
        union = day.copy() if first else union | day
        yield len(union)
