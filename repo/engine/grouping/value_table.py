"""Distinct values of a property, by codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from common.filters import Value
from repo.columns.chunk import DecimalNumbers, ScaledNumbers
from repo.columns.dictionary_codes import ranks_of
from repo.columns.exact_numbers import ExactNumbers, united_numbers
from repo.columns.values import count_values, python_values

NO_NUMBERS = ScaledNumbers(np.zeros(0, np.int64), 0)
NO_TEXTS: pa.StringArray = pa.array([], pa.string())

_BOOLEANS = (False, True)
_LAST_CODES = (*_BOOLEANS, None)
"""The values after numbers and texts, the missing one last."""


@dataclass(frozen=True)
class ValueTable:
    """Distinct values, whose codes number them: numbers, texts, false, true, the missing value."""

    numbers: ExactNumbers
    """Ascending, each once."""
    texts: pa.StringArray
    """Each once; ascending where they may be sliced."""

    def __len__(self) -> int:
        return self.first_boolean + len(_LAST_CODES)

    @cached_property
    def first_text(self) -> int:
        return count_values(self.numbers)

    @cached_property
    def first_boolean(self) -> int:
        return self.first_text + len(self.texts)

    @property
    def missing(self) -> int:
        """The code of the missing value, which is the last one."""
        return len(self) - 1

    def value(self, code: int) -> Value | None:
        """Return the value of a code; None for the missing value."""
        if code < self.first_text:
            return python_values(self.numbers, slice(code, code + 1))[0]
        if code < self.first_boolean:
            return str(self.texts[code - self.first_text].as_py())
        return _LAST_CODES[code - self.first_boolean]

    def take(self, codes: NDArray[np.int64]) -> "ValueTable":
        """Return the table of those numbers and texts that have one of these codes, ascending."""
        start, end = np.searchsorted(codes, (self.first_text, self.first_boolean)).tolist()
        return ValueTable(
            _take_numbers(self.numbers, codes[:start]),
            self.texts.take(pa.array(codes[start:end] - self.first_text)),
        )

    def ranks(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return numbers that are in the order of the values of these codes."""
        distinct, inverse = np.unique(codes, return_inverse=True)
        start, end = np.searchsorted(distinct, (self.first_text, self.first_boolean)).tolist()
        ranks = np.arange(len(distinct))
        if end - start > 1:
            texts = self.texts.take(pa.array(distinct[start:end] - self.first_text))
            ranks[start:end] = ranks_of(pc.sort_indices(texts)) + start
        return ranks[inverse]

    def equals(self, other: "ValueTable") -> bool:
        """Return whether both have the same values with the same codes."""
        return self is other or (
            len(self) == len(other)
            and _equal_numbers(self.numbers, other.numbers)
            and bool(self.texts.equals(other.texts))
        )


def unite(tables: Sequence[ValueTable]) -> tuple[ValueTable, list[NDArray[np.int64]]]:
    """Return the table of all values of tables, and for each table its codes in that one."""
    numbers, number_codes = _unite_numbers([each.numbers for each in tables])
    texts, text_codes = _unite_texts([each.texts for each in tables])
    united = ValueTable(numbers, texts)
    last = np.arange(united.first_boolean, len(united))
    return united, [
        np.concatenate([of_numbers, of_texts + united.first_text, last])
        for of_numbers, of_texts in zip(number_codes, text_codes, strict=True)
    ]


def _take_numbers(numbers: ExactNumbers, codes: NDArray[np.int64]) -> ExactNumbers:
    if isinstance(numbers, ScaledNumbers):
        return ScaledNumbers(numbers.scaled[codes], numbers.scale)
    ranks = np.arange(len(codes), dtype=np.int32)
    return DecimalNumbers(ranks, numbers.dictionary.take(pa.array(codes)))


def _unite_numbers(parts: Sequence[ExactNumbers]) -> tuple[ExactNumbers, list[NDArray[np.int64]]]:
    counts = [count_values(part) for part in parts]
    present = [part for part, count in zip(parts, counts, strict=True) if count]
    if not present:
        return NO_NUMBERS, [np.zeros(0, np.int64)] * len(parts)
    stacked = united_numbers(present)
    if isinstance(stacked, DecimalNumbers):
        ranks = np.arange(len(stacked.dictionary), dtype=np.int32)
        return DecimalNumbers(ranks, stacked.dictionary), _split(stacked.codes, counts)
    distinct, codes = np.unique(stacked.scaled.astype(np.int64), return_inverse=True)
    return ScaledNumbers(distinct, stacked.scale), _split(codes, counts)


def _unite_texts(
    parts: Sequence[pa.StringArray],
) -> tuple[pa.StringArray, list[NDArray[np.int64]]]:
    encoded = pa.concat_arrays(parts).dictionary_encode()
    return encoded.dictionary, _split(encoded.indices.to_numpy(), list(map(len, parts)))


def _split(codes: NDArray[np.integer], counts: Sequence[int]) -> list[NDArray[np.int64]]:
    return np.split(codes.astype(np.int64), np.cumsum(counts)[:-1])


def _equal_numbers(one: ExactNumbers, other: ExactNumbers) -> bool:
    if isinstance(one, ScaledNumbers) and isinstance(other, ScaledNumbers):
        return one.scale == other.scale and np.array_equal(one.scaled, other.scaled)
    if isinstance(one, DecimalNumbers) and isinstance(other, DecimalNumbers):
        return bool(one.dictionary.equals(other.dictionary))
    return False
