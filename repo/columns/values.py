"""The values of columns in their canonical form: equal values have equal arrays.

Dictionaries are sorted and contain no unused entries, numbers have the least scale and the smallest
integers that they fit in.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from repo.columns.chunk import BooleanValues, DecimalNumbers, ScaledNumbers, TextValues, Values
from utils.decimals import decimal_text

MAX_SCALE = 18
"""10**18 is the largest power of ten in 64 bits."""

_INT64 = np.iinfo(np.int64)
_ZERO = Decimal()
_INTEGERS = (np.int8, np.int16, np.int32)


def text_values(texts: pa.StringArray) -> TextValues:
    """Return texts as codes of a sorted dictionary."""
    encoded = texts.dictionary_encode()
    return sorted_texts(encoded.indices.to_numpy(), encoded.dictionary)


def sorted_texts(codes: NDArray[np.int32], dictionary: pa.StringArray) -> TextValues:
    """Return codes of a dictionary of distinct texts, of which all are in use, as sorted."""
    order = pc.sort_indices(dictionary)
    return TextValues(_ranks(order.to_numpy())[codes], dictionary.take(order))


def integer_values(integers: NDArray[np.int64]) -> ScaledNumbers:
    """Return integers as numbers."""
    return ScaledNumbers(smallest(integers), 0)


def scaled_values(scaled: NDArray[np.int64], scale: int) -> ScaledNumbers:
    """Return the numbers `scaled / 10**scale` with the least scale."""
    while scale and not (scaled % 10).any():
        scaled, scale = scaled // 10, scale - 1
    return ScaledNumbers(smallest(scaled), scale)


def number_values(texts: pa.StringArray) -> ScaledNumbers | DecimalNumbers:
    """Return numbers that are written as in JSON."""
    scaled = _parse_plain(texts)
    return _parse_any(texts) if scaled is None else scaled


def smallest(integers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers in the smallest signed type that has them all."""
    low, high = integers.min(initial=0), integers.max(initial=0)
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return integers.astype(kind)
    return integers


def united(parts: Sequence[Any]) -> Values:
    """Return the values of columns of one kind, one column after the other."""
    if isinstance(parts[0], BooleanValues):
        return BooleanValues(np.concatenate([part.values for part in parts]))
    if isinstance(parts[0], TextValues):
        encoded = pa.concat_arrays([part.dictionary for part in parts]).dictionary_encode()
        codes = encoded.indices.to_numpy()[_stacked_codes(parts)]
        return sorted_texts(codes, encoded.dictionary)
    return _united_numbers(parts)


def taken(values: Values, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Values:
    """Return the values at positions, or where a mask is true; there is at least one."""
    match values:
        case BooleanValues(booleans):
            return BooleanValues(booleans[rows])
        case ScaledNumbers(scaled, scale):
            return scaled_values(scaled[rows].astype(np.int64), scale)
        case TextValues(codes, dictionary):
            return TextValues(*_used(codes[rows], dictionary))
        case DecimalNumbers(codes, dictionary):
            codes, dictionary = _used(codes[rows], dictionary)
            return sorted_numbers(codes, dictionary.to_pylist())


def python_values(values: Values) -> list[str | Decimal | bool]:
    """Return values as objects of Python; numbers are exact."""
    match values:
        case BooleanValues(booleans):
            return list(booleans.tolist())
        case ScaledNumbers(scaled, scale):
            return [Decimal(f"{number}e-{scale}") for number in scaled.tolist()]
        case TextValues(codes, dictionary):
            return list(dictionary.take(pa.array(codes)).to_pylist())
        case DecimalNumbers(codes, dictionary):
            return list(map(Decimal, dictionary.take(pa.array(codes)).to_pylist()))


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


def _united_numbers(parts: Sequence[ScaledNumbers | DecimalNumbers]) -> Values:
    scaled = [part for part in parts if isinstance(part, ScaledNumbers)]
    scale = max((part.scale for part in scaled), default=0)
    if len(scaled) == len(parts) and all(_fits(part, scale) for part in scaled):
        integers = [part.scaled * np.int64(10 ** (scale - part.scale)) for part in scaled]
        return scaled_values(np.concatenate(integers), scale)
    decimals = [_decimals(part) for part in parts]
    texts = [text for part in decimals for text in part.dictionary.to_pylist()]
    return sorted_numbers(_stacked_codes(decimals), texts)


def _fits(numbers: ScaledNumbers, scale: int) -> bool:
    """Return whether numbers fit into 64 bits with another scale."""
    factor = 10 ** (scale - numbers.scale)
    low, high = int(numbers.scaled.min()), int(numbers.scaled.max())
    return bool(_INT64.min <= low * factor and high * factor <= _INT64.max)


def _decimals(numbers: ScaledNumbers | DecimalNumbers) -> DecimalNumbers:
    if isinstance(numbers, DecimalNumbers):
        return numbers
    distinct, codes = np.unique(numbers.scaled, return_inverse=True)
    texts = [f"{number}e-{numbers.scale}" for number in distinct.tolist()]
    return DecimalNumbers(codes.astype(np.int32), pa.array(texts, pa.string()))


def _stacked_codes(parts: Sequence[TextValues | DecimalNumbers]) -> NDArray[np.int32]:
    """Return codes for the dictionaries of all parts, one dictionary after the other."""
    starts = np.cumsum([0, *(len(part.dictionary) for part in parts)], dtype=np.int32)
    return np.concatenate(
        [part.codes + start for part, start in zip(parts, starts[:-1], strict=True)]
    )


def _used(codes: NDArray[np.int32], dictionary: Any) -> tuple[NDArray[np.int32], Any]:
    """Return codes of a dictionary without the entries that no code uses."""
    is_used = np.zeros(len(dictionary), np.bool_)
    is_used[codes] = True
    if is_used.all():
        return codes, dictionary
    position = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    return position[codes], dictionary.take(pa.array(np.flatnonzero(is_used)))


def _parse_plain(texts: pa.StringArray) -> ScaledNumbers | None:
    """Return numbers without exponents that fit into 64 bits with one scale, or None."""
    if pc.any(pc.match_substring(texts, "e", ignore_case=True)).as_py():
        return None
    point = pc.find_substring(texts, ".").to_numpy()
    length = pc.binary_length(texts).to_numpy()
    whole = np.where(point < 0, length, point)
    scale = int(np.maximum(length - whole - 1, 0).max())
    # Numbers that are longer may fit without zeros at the end, which _parse_any removes.
    if scale > MAX_SCALE or int(whole.max()) > 38 - MAX_SCALE:
        return None
    unscaled = texts.cast(pa.decimal128(38, scale))
    low, high = np.frombuffer(unscaled.buffers()[1], np.int64).reshape(-1, 2).T
    return scaled_values(low, scale) if (high == low >> 63).all() else None


def _parse_any(texts: pa.StringArray) -> ScaledNumbers | DecimalNumbers:
    encoded = texts.dictionary_encode()
    return sorted_numbers(encoded.indices.to_numpy(), encoded.dictionary.to_pylist())


def sorted_numbers(
    codes: NDArray[np.int32], texts: Sequence[str]
) -> ScaledNumbers | DecimalNumbers:
    """Return codes of number texts, of which all are in use, in the canonical form."""
    numbers = [Decimal(text) or _ZERO for text in texts]
    if (scaled := _scaled(numbers)) is not None:
        return scaled_values(scaled[0][codes], scaled[1])
    canonical = list(map(decimal_text, numbers))
    distinct = sorted(dict(zip(canonical, numbers, strict=True)).items(), key=lambda item: item[1])
    rank = {text: code for code, (text, _) in enumerate(distinct)}
    ranks = np.array([rank[text] for text in canonical], np.int32)
    return DecimalNumbers(ranks[codes], pa.array(list(rank), pa.string()))


def _scaled(numbers: Sequence[Decimal]) -> tuple[NDArray[np.int64], int] | None:
    """Return numbers as integers and their scale, or None if some do not fit into 64 bits."""
    fractions = list(map(_decimal_places, numbers))
    if (scale := max(fractions)) > MAX_SCALE or max(map(Decimal.adjusted, numbers)) > MAX_SCALE:
        return None
    integers = [_times_power(number, scale) for number in numbers]
    fit = _INT64.min <= min(integers) and max(integers) <= _INT64.max
    return (np.array(integers, np.int64), scale) if fit else None


def _decimal_places(number: Decimal) -> int:
    """Return how many digits after the point are needed."""
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "JSON has no infinite numbers"
    zeros = len(digits) - len(bytes(digits).rstrip(b"\0"))
    return max(0, -exponent - zeros)


def _times_power(number: Decimal, scale: int) -> int:
    """Return `number * 10**scale`, which is an integer, without rounding."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "JSON has no infinite numbers"
    return int(Decimal((sign, digits, exponent + scale)))


def _ranks(order: NDArray[np.uint64]) -> NDArray[np.int32]:
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks
