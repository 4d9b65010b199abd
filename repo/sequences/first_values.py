"""The values of a property that has one value in each event, as codes."""

import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from common.filters import Value, typed
from repo.columns.chunk import (
    BooleanValues,
    Column,
    DecimalNumbers,
    ScaledNumbers,
    TextValues,
    Values,
)
from repo.columns.chunk_table import Path
from repo.columns.filter_evaluation import KINDS
from repo.columns.values import python_values, taken
from repo.engine.scan import MatchingEvents

MISSING = -1

MAX_BYTES = 256 * 2**20
"""The largest size of distinct values in memory."""
_CODE_BYTES = 160  # of a code with its place in a dictionary, besides the value


class FirstValues:
    """Codes of the values of a property; those of equal values are equal in all chunks.

    Of a list the first element counts: the first text, or without texts the first number.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._codes: dict[tuple[str, Value], int] = {}
        self._bytes = 0

    @property
    def values(self) -> list[Value]:
        """The values by their codes, from 0."""
        return [value for _, value in self._codes]

    def codes(self, events: MatchingEvents, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Return the code of the value in each of these rows of a chunk; -1 where it is missing.

        Raises: TooExpensive.
        """
        codes = np.full(len(rows), MISSING, np.int32)
        for kind in KINDS:
            column = events.column(self._path, kind)
            if column is not None:
                is_missing = np.flatnonzero(codes == MISSING)
                which, positions = _first_values(column, rows[is_missing])
                codes[is_missing[which]] = self._value_codes(column.values, positions)
        return codes

    def _value_codes(self, values: Values, positions: NDArray[np.intp]) -> NDArray[np.int32]:
        """Return the codes of the values at positions."""
        if not len(positions):
            return np.zeros(0, np.int32)
        used, index = _distinct(values, positions)
        codes = [self._code(value) for value in python_values(taken(values, used))]
        if self._bytes > self._max_bytes:
            cheaper = "a shorter range, or a property with fewer values"
            raise TooExpensive("bytes of distinct values", self._bytes, self._max_bytes, cheaper)
        return np.array(codes, np.int32)[index]

    def _code(self, value: Value) -> int:
        key = typed(value)
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = len(self._codes)
            self._bytes += _CODE_BYTES + sys.getsizeof(value)
        return code


def value_order(value: Value) -> tuple[int, Decimal, str]:
    """Return a key that sorts values: numbers, then texts by code point, then booleans."""
    if isinstance(value, bool):
        return 2, Decimal(value), ""
    return (1, Decimal(0), value) if isinstance(value, str) else (0, value, "")


def joint_codes(columns: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return codes of the values of several properties together; -1 where one is missing."""
    codes, *others = columns
    for other in others:
        is_missing = (codes == MISSING) | (other == MISSING)
        _, index = np.unique(codes.astype(np.int64) << 32 | other, return_inverse=True)
        codes = np.where(is_missing, MISSING, index).astype(np.int32)
    return codes


def _first_values(
    column: Column, rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp] | slice, NDArray[np.intp]]:
    """Return which rows have a value, and the position of the first value of each."""
    if column.rows is None:
        return slice(None), rows
    positions = column.rows.searchsorted(rows.astype(column.rows.dtype))
    has_value = column.rows.take(positions, mode="clip") == rows
    return np.flatnonzero(has_value), positions[has_value]


def _distinct(
    values: Values, positions: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of distinct values, and for each position which of these it has."""
    _, first, index = np.unique(_array(values)[positions], return_index=True, return_inverse=True)
    return positions[first], index


def _array(values: Values) -> NDArray[Any]:
    match values:
        case TextValues(array) | DecimalNumbers(array) | ScaledNumbers(array):
            return array
        case BooleanValues(booleans):
            return booleans
