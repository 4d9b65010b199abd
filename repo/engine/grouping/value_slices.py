"""Slices of values, so that only some distinct texts of all chunks are compared at a time."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.errors import TooExpensive
from repo.columns.values import count_values
from repo.engine.grouping.value_table import ValueTable

_SLICE_VALUES = 2**18
_SLICE_BYTES = 2**24
_MAX_TEXTS = 2**24
_MAX_NUMBERS = 2**22
"""Distinct values of all chunks, before those that are equal are united. Texts are sliced."""
_SAMPLES = 64
"""Texts of a slice that are looked at to find where slices begin."""


@dataclass(frozen=True, slots=True)
class ValueSlices:
    """Slices of one property, the one with the most texts."""

    tables: Sequence[ValueTable]
    """The values of the property, one table for each part."""
    dimension: int
    """The position of the property."""
    starts: Sequence[str]
    """The first texts of all slices but the first."""

    @property
    def is_ascending(self) -> bool:
        """Whether groups of later slices come later in the order of values."""
        return self.dimension == 0

    def positions(
        self, digits: Sequence[Sequence[NDArray[np.int64]]]
    ) -> Iterator[list[NDArray[np.intp]]]:
        """Yield the positions of groups in each part, slice by slice.

        `digits` are the codes of the groups of each part, by property.
        """
        for start, end in pairwise((None, *self.starts, None)):
            yield [
                _within(table, of_part[self.dimension], start, end)
                for table, of_part in zip(self.tables, digits, strict=True)
            ]


def slices_of(tables: Sequence[Sequence[ValueTable]]) -> ValueSlices:
    """Return the slices for parts with these tables, by part and property. Raises: TooExpensive."""
    by_dimension = list(zip(*tables, strict=True))
    texts = [sum(len(each.texts) for each in of_parts) for of_parts in by_dimension]
    numbers = [sum(count_values(each.numbers) for each in of_parts) for of_parts in by_dimension]
    _check("distinct texts of chunks", max(texts, default=0), _MAX_TEXTS)
    _check("distinct numbers of chunks", max(numbers, default=0), _MAX_NUMBERS)
    dimension = int(np.argmax(texts)) if texts else 0
    sliced = by_dimension[dimension] if by_dimension else ()
    return ValueSlices(sliced, dimension, _starts([each.texts for each in sliced]))


def _check(resource: str, count: int, allowed: int) -> None:
    if count > allowed:
        raise TooExpensive(resource, count, allowed, "a shorter range, or a filter")


def _starts(parts: Sequence[pa.StringArray]) -> list[str]:
    """Return the texts at which all slices but the first begin, ascending."""
    count = sum(map(len, parts))
    size = sum(part.nbytes for part in parts)
    slices = max(count // _SLICE_VALUES, size // _SLICE_BYTES) + 1
    step = max(1, count // (slices * _SAMPLES))
    samples = list[str]()
    first = 0
    for part in parts if slices > 1 else ():
        chosen = np.arange(first, len(part), step)
        samples += part.take(pa.array(chosen)).to_pylist()
        first = int(chosen[-1]) + step - len(part) if len(chosen) else first - len(part)
    samples.sort()
    return sorted({samples[number * len(samples) // slices] for number in range(1, slices)})


def _within(
    table: ValueTable, codes: NDArray[np.int64], start: str | None, end: str | None
) -> NDArray[np.intp]:
    """Return the positions of codes whose texts are at least `start` and before `end`.

    Numbers are before all texts, and booleans and the missing value after them.
    """
    low = 0 if start is None else _code(table, start)
    high = len(table) if end is None else _code(table, end)
    return np.flatnonzero((codes >= low) & (codes < high))


def _code(table: ValueTable, text: str) -> int:
    """Return the code of the first text that is at least `text`; texts are in order."""
    return table.first_text + bisect_left(table.texts, text, key=pa.StringScalar.as_py)
