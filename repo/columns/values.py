"""The values of columns of any type in their canonical form: equal values have equal arrays.

Dictionaries are sorted, and contain no values that are not used.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from repo.columns.chunk import BooleanValues, DecimalNumbers, ScaledNumbers, TextValues, Values
from repo.columns.dictionary_codes import ranks_of, stacked_codes, without_unused
from repo.columns.exact_numbers import scaled_values, sorted_numbers, united_numbers

_ALL = slice(None)


def text_values(texts: pa.StringArray) -> TextValues:
    """Return texts as codes of a sorted dictionary."""
    encoded = texts.dictionary_encode()
    return _sorted_texts(encoded.indices.to_numpy(), encoded.dictionary)


def united(parts: Sequence[Any]) -> Values:
    """Return the values of columns of one kind, one column after the other."""
    if len(parts) == 1:
        single: Values = parts[0]
        return single
    if isinstance(parts[0], BooleanValues):
        return BooleanValues(np.concatenate([part.values for part in parts]))
    if isinstance(parts[0], TextValues):
        encoded = pa.concat_arrays([part.dictionary for part in parts]).dictionary_encode()
        codes = encoded.indices.to_numpy()[stacked_codes(parts)]
        return _sorted_texts(codes, encoded.dictionary)
    return united_numbers(parts)


def taken(values: Values, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Values:
    """Return the values at positions, or where a mask is true; there is at least one."""
    match values:
        case BooleanValues(booleans):
            return BooleanValues(booleans[rows])
        case ScaledNumbers(scaled, scale):
            return scaled_values(scaled[rows].astype(np.int64), scale)
        case TextValues(codes, dictionary):
            return TextValues(*without_unused(codes[rows], dictionary))
        case DecimalNumbers(numbers, dictionary):
            return sorted_numbers(*without_unused(numbers[rows], dictionary))


def python_values(values: Values, part: slice = _ALL) -> list[str | Decimal | bool]:
    """Return a part of values as objects of Python; numbers are exact."""
    match values:
        case BooleanValues(booleans):
            return list(booleans[part].tolist())
        case ScaledNumbers(scaled, scale):
            return [Decimal(f"{number}e-{scale}") for number in scaled[part].tolist()]
        case TextValues(codes, dictionary):
            return list(dictionary.take(pa.array(codes[part])).to_pylist())
        case DecimalNumbers(codes, dictionary):
            return list(map(Decimal, dictionary.take(pa.array(codes[part])).to_pylist()))


def value_bytes(values: Values) -> int:
    """Return the memory that values take."""
    match values:
        case BooleanValues(array) | ScaledNumbers(array):
            return array.nbytes
        case TextValues(codes, dictionary) | DecimalNumbers(codes, dictionary):
            return codes.nbytes + int(dictionary.nbytes)


def count_values(values: Values) -> int:
    match values:
        case TextValues(codes) | DecimalNumbers(codes):
            return len(codes)
        case ScaledNumbers(scaled):
            return len(scaled)
        case BooleanValues(booleans):
            return len(booleans)


def _sorted_texts(codes: NDArray[np.int32], dictionary: pa.StringArray) -> TextValues:
    """Return codes of a dictionary of distinct texts, all of which are in use, as sorted."""
    order = pc.sort_indices(dictionary)
    return TextValues(ranks_of(order)[codes], dictionary.take(order))
