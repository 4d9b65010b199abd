"""Exact numbers in their canonical form: equal numbers have equal arrays.

They are integers with the least scale and the smallest type, or else codes of a sorted dictionary.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from repo.columns.chunk import DecimalNumbers, ScaledNumbers
from repo.columns.dictionary_codes import ranks_of, stacked_codes
from utils.decimals import decimal_text

MAX_SCALE = 18
"""10**18 is the largest power of ten in 64 bits."""

ExactNumbers = ScaledNumbers | DecimalNumbers

_PLAIN_DIGITS = 38
"""Arrow has decimals of up to 76 digits, so numbers may have 38 before and 38 after the point."""
_ZERO = Decimal()
_INT64 = np.iinfo(np.int64)
_INTEGERS = (np.int8, np.int16, np.int32)


def number_values(texts: pa.StringArray) -> ExactNumbers:
    """Return numbers that are written as in JSON."""
    plain = parse_plain(texts)
    if plain and (scaled := plain.scaled()) is not None:
        return scaled_values(scaled, plain.scale)
    encoded = texts.dictionary_encode()
    return sorted_numbers(encoded.indices.to_numpy(), encoded.dictionary)


def scaled_values(scaled: NDArray[np.int64], scale: int) -> ScaledNumbers:
    """Return the numbers `scaled / 10**scale` with the least scale."""
    while scale and not (scaled % 10).any():
        scaled, scale = scaled // 10, scale - 1
    return ScaledNumbers(smallest(scaled), scale)


def sorted_numbers(codes: NDArray[np.int32], texts: pa.StringArray) -> ExactNumbers:
    """Return numbers that are codes of texts, all of which are in use, in the canonical form."""
    if parse_plain(texts) is None:
        return _sorted_with_python(codes, texts.to_pylist())
    distinct = _shortest(texts).dictionary_encode()
    codes = distinct.indices.to_numpy()[codes]
    numbers = parse_plain(distinct.dictionary)
    assert numbers, "shorter forms are plain too"
    if (scaled := numbers.scaled()) is not None:
        return scaled_values(scaled[codes], numbers.scale)
    order = pc.sort_indices(numbers.decimals)
    return DecimalNumbers(ranks_of(order)[codes], distinct.dictionary.take(order))


def united_numbers(parts: Sequence[ExactNumbers]) -> ExactNumbers:
    """Return the numbers of columns, one column after the other."""
    scaled = [part for part in parts if isinstance(part, ScaledNumbers)]
    scale = max((part.scale for part in scaled), default=0)
    if len(scaled) == len(parts) and all(_fits(part, scale) for part in scaled):
        integers = [part.scaled * np.int64(10 ** (scale - part.scale)) for part in scaled]
        return scaled_values(np.concatenate(integers), scale)
    decimals = [_decimals(part) for part in parts]
    texts = pa.concat_arrays([part.dictionary for part in decimals])
    return sorted_numbers(stacked_codes(decimals), texts)


def smallest(integers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers in the smallest signed type that they fit in."""
    low, high = integers.min(initial=0), integers.max(initial=0)
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return integers.astype(kind)
    return integers


class PlainNumbers(NamedTuple):
    """Numbers of at most 38 digits before and after the point."""

    decimals: Any
    """An array of Arrow's decimals."""
    scale: int

    def scaled(self) -> NDArray[np.int64] | None:
        """Return the numbers as integers, or None if some do not fit into 64 bits."""
        if self.scale > MAX_SCALE or self.decimals.type.bit_width > 128:
            return None
        halves = np.frombuffer(self.decimals.buffers()[1], np.int64).reshape(-1, 2)
        low, high = halves[:, 0], halves[:, 1]
        return low if (high == low >> 63).all() else None

    def limbs(self) -> list[NDArray[np.int64]]:
        """Return the numbers times `10**scale` as limbs of 32 bits, the least significant first.

        The last has the sign.
        """
        words = np.frombuffer(self.decimals.buffers()[1], np.uint32)
        *lower, last = words.reshape(len(self.decimals), -1).T
        return [*(word.astype(np.int64) for word in lower), last.view(np.int32).astype(np.int64)]


def parse_plain(texts: pa.StringArray) -> PlainNumbers | None:
    """Return numbers as decimals of Arrow, or None if some have more digits, or exponents."""
    if pc.any(pc.match_substring(texts, "e", ignore_case=True)).as_py():
        return None
    unsigned = pc.ascii_ltrim(texts, "-")
    point = pc.find_substring(unsigned, ".").to_numpy()
    length = pc.binary_length(unsigned).to_numpy()
    whole = np.where(point < 0, length, point)
    scale = int(np.maximum(length - whole - 1, 0).max())
    digits = int(whole.max())
    if max(digits, scale) > _PLAIN_DIGITS:
        return None
    is_small = digits + scale <= _PLAIN_DIGITS
    return PlainNumbers(
        texts.cast(pa.decimal128(38, scale) if is_small else pa.decimal256(76, scale)), scale
    )


def _shortest(texts: pa.StringArray) -> pa.StringArray:
    """Return numbers without exponents in their shortest form, as 1.5 for 1.50, and 0 for -0.0."""
    stripped = pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    short = pc.if_else(pc.match_substring(texts, "."), stripped, texts)
    return pc.if_else(pc.equal(short, "-0"), "0", short)


def _sorted_with_python(codes: NDArray[np.int32], texts: Sequence[str]) -> ExactNumbers:
    # -0 is 0, and 0e400 is not large.
    numbers = [Decimal(text) or _ZERO for text in texts]
    if (fitting := _scaled(numbers)) is not None:
        return scaled_values(fitting[0][codes], fitting[1])
    canonical = list(map(_canonical_text, numbers))
    distinct = sorted(dict(zip(canonical, numbers, strict=True)).items(), key=lambda item: item[1])
    rank = {text: code for code, (text, _) in enumerate(distinct)}
    ranks = np.array([rank[text] for text in canonical], np.int32)
    return DecimalNumbers(ranks[codes], pa.array(list(rank), pa.string()))


def _canonical_text(number: Decimal) -> str:
    """Return the text of a number, without an exponent if `parse_plain` parses it then."""
    text = decimal_text(number)
    if "e" in text:
        shortest = Decimal(text)
        exponent = shortest.as_tuple().exponent
        assert isinstance(exponent, int), "JSON has no infinite numbers"
        if exponent >= -_PLAIN_DIGITS and shortest.adjusted() < _PLAIN_DIGITS:
            return f"{shortest:f}"
    return text


def _scaled(numbers: Sequence[Decimal]) -> tuple[NDArray[np.int64], int] | None:
    """Return numbers as integers and their scale, or None if some do not fit into 64 bits."""
    scale = max(map(_decimal_places, numbers))
    if scale > MAX_SCALE or max(map(Decimal.adjusted, numbers)) > MAX_SCALE:
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


def _fits(numbers: ScaledNumbers, scale: int) -> bool:
    """Return whether numbers fit into 64 bits with another scale."""
    factor = 10 ** (scale - numbers.scale)
    low, high = int(numbers.scaled.min()), int(numbers.scaled.max())
    return bool(_INT64.min <= low * factor and high * factor <= _INT64.max)


def _decimals(numbers: ExactNumbers) -> DecimalNumbers:
    if isinstance(numbers, DecimalNumbers):
        return numbers
    distinct, codes = np.unique(numbers.scaled, return_inverse=True)
    texts = [f"{Decimal(number).scaleb(-numbers.scale):f}" for number in distinct.tolist()]
    return DecimalNumbers(codes.astype(np.int32), pa.array(texts, pa.string()))
