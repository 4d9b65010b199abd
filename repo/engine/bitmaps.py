"""Operations on sets of users, which are roaring bitmaps of ordinals."""

from collections.abc import Iterable, Iterator, Sequence

from pyroaring import BitMap

_EMPTY = BitMap()


def max_bytes(users: int) -> int:
    """Return the maximum size in bytes of a set, given the number of all users."""
    # Containers of 65,536 ordinals take 2 bytes for each member, or 8 kB as a bitset.
    return min(2 * users, users // 8 + 8192)


def union_of(sets: Iterable[BitMap]) -> BitMap:
    """Return a new set, the union of all sets."""
    # With `_EMPTY` first: `BitMap.union` needs at least one argument.
    return BitMap.union(_EMPTY, *sets)


def rolling_counts(days: Sequence[BitMap], width: int) -> Iterator[int]:
    """Yield the size of the union of each day and the `width - 1` days before it.

    Source: the algorithm of van Herk, Gil and Werman for running maxima.
    """
    # Two unions for each day whatever the width: days are cut into blocks of `width`, and a window
    # is the end of one block and the beginning of the next.
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
        suffix_unions.clear()  # before the next ones are made: each may be large
        suffix_unions = _suffix_unions(block)


def _suffix_unions(block: Sequence[BitMap]) -> list[BitMap]:
    """Return, for each day, the union of the days from it to the end of the block."""
    unions: list[BitMap] = []
    for day in reversed(block):
        unions.append(day | unions[-1] if unions else day)
    return unions[::-1]


def running_counts(days: Sequence[BitMap], firsts: Iterable[bool]) -> Iterator[int]:
    """Yield the size of the union of the days from the last one that is a first to each day."""
    union = BitMap()
    for day, first in zip(days, firsts, strict=True):
        union = day.copy() if first else union | day
        yield len(union)
