"""Statistics of numbers in columns: exact sums, extremes and sums by group, and percentiles.

Nothing is rounded but averages and percentiles, which are the nearest doubles.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from repo.columns.chunk import DecimalNumbers, ScaledNumbers
from repo.columns.exact_numbers import MAX_SCALE, ExactNumbers, number_values, parse_plain
from utils.decimals import decimal_text

Positions = slice | NDArray[np.intp] | NDArray[np.bool_]

_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
_INT64 = np.iinfo(np.int64)
_LIMB_BITS = 32
_LIMB_MASK = 2**_LIMB_BITS - 1
_EXACT_INTEGERS = 2**53
_EXACT_POWERS = 22
"""Doubles hold integers up to 2**53, and powers of ten up to 10**22, without rounding."""

_BIN_BITS = 16
"""The power of two of the number of intervals in which integers are counted, at most."""
_MAX_SORTED = 2**22
"""The most numbers that are sorted, in 64 MB."""


@dataclass(frozen=True, slots=True)
class ExactSum:
    """The exact number `units / 10**scale`."""

    units: int = 0
    scale: int = 0

    def __add__(self, other: "ExactSum") -> "ExactSum":
        scale = max(self.scale, other.scale)
        return ExactSum(self._at(scale) + other._at(scale), scale)

    def _at(self, scale: int) -> int:
        return self.units * int(10 ** (scale - self.scale))

    @property
    def number(self) -> Decimal:
        return Decimal(self.units).scaleb(-self.scale, _EXACT)

    def divided_by(self, count: int) -> float:
        """Return the nearest double of the quotient; infinite if there is none."""
        return _nearest_double(self.units, count * 10**self.scale)


@dataclass(frozen=True, slots=True)
class ScaledSample:
    """Numbers that are integers of a common scale."""

    scaled: NDArray[np.int64]
    """Signed integers of 1, 2, 4 or 8 bytes."""
    scale: int

    def __len__(self) -> int:
        return len(self.scaled)

    @property
    def nbytes(self) -> int:
        return self.scaled.nbytes

    def at(self, positions: Positions) -> "ScaledSample":
        return ScaledSample(self.scaled[positions], self.scale)

    @property
    def limbs(self) -> list[NDArray[Any]]:
        """The integers as arrays whose sums are exact: see `_units`."""
        if self.scaled.itemsize < 8:
            return [self.scaled]
        return [self.scaled & _LIMB_MASK, self.scaled >> _LIMB_BITS]

    def sum(self) -> ExactSum:
        return ExactSum(_units(int(limb.sum(dtype=np.int64)) for limb in self.limbs), self.scale)

    def least(self) -> Decimal:
        return ExactSum(int(self.scaled.min()), self.scale).number

    def greatest(self) -> Decimal:
        return ExactSum(int(self.scaled.max()), self.scale).number

    def fits(self, scale: int) -> bool:
        """Return whether the integers of a scale at least as large need no more than 64 bits."""
        if scale == self.scale or not len(self):
            return True
        factor = 10 ** (scale - self.scale)
        low, high = int(self.scaled.min()) * factor, int(self.scaled.max()) * factor
        return scale <= MAX_SCALE and low >= _INT64.min and high <= _INT64.max

    def rescaled(self, scale: int) -> NDArray[np.int64]:
        """Return the integers of a scale that fits."""
        if scale == self.scale or not len(self):
            return self.scaled
        return self.scaled.astype(np.int64) * np.int64(10 ** (scale - self.scale))

    def doubles(self) -> NDArray[np.float64]:
        if self.scale <= _EXACT_POWERS and _is_within(self.scaled, _EXACT_INTEGERS):
            return self.scaled / 10.0**self.scale
        distinct, codes = np.unique(self.scaled, return_inverse=True)
        power = 10**self.scale
        return np.array([_nearest_double(each, power) for each in distinct.tolist()])[codes]


class DecimalTable:
    """The distinct numbers of a column, in the order of their values."""

    def __init__(self, texts: pa.StringArray) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def doubles(self) -> NDArray[np.float64]:
        try:
            return np.asarray(self.texts.cast(pa.float64()))
        except pa.ArrowInvalid:  # beyond doubles
            return np.array(list(map(float, self.texts.to_pylist())))

    @cached_property
    def limbs(self) -> tuple[list[NDArray[Any]], int]:
        """The numbers as arrays whose sums are exact, and their scale: see `_units`."""
        if plain := parse_plain(self.texts):
            return plain.limbs(), plain.scale
        numbers = list(map(Decimal, self.texts.to_pylist()))
        scale = max(0, *(-_exponent(number) for number in numbers))
        units = [int(number.scaleb(scale, _EXACT)) for number in numbers]
        return [np.array(units, np.object_)], scale


@dataclass(frozen=True, slots=True)
class DecimalSample:
    """Numbers that are codes of a table."""

    codes: NDArray[np.int32]
    table: DecimalTable

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """The memory, which includes doubles."""
        return 3 * self.codes.nbytes

    def at(self, positions: Positions) -> "DecimalSample":
        return DecimalSample(self.codes[positions], self.table)

    @property
    def scale(self) -> int:
        return self.table.limbs[1]

    @property
    def limbs(self) -> list[NDArray[Any]]:
        """The numbers as arrays whose sums are exact: see `_units`."""
        return [limb[self.codes] for limb in self.table.limbs[0]]

    def sum(self) -> ExactSum:
        limbs, scale = self.table.limbs
        counts = np.bincount(self.codes, minlength=len(self.table))
        return ExactSum(_units(int(counts.astype(limb.dtype) @ limb) for limb in limbs), scale)

    def least(self) -> Decimal:
        return Decimal(self.table.texts[int(self.codes.min())].as_py())

    def greatest(self) -> Decimal:
        return Decimal(self.table.texts[int(self.codes.max())].as_py())

    def doubles(self) -> NDArray[np.float64]:
        return self.table.doubles[self.codes]


Sample = ScaledSample | DecimalSample


def sample_of(numbers: ExactNumbers) -> Sample:
    """Return the numbers of a column as a sample, whose parts share what is computed once."""
    match numbers:
        case ScaledNumbers(scaled, scale):
            return ScaledSample(scaled, scale)
        case DecimalNumbers(codes, dictionary):
            return DecimalSample(codes, DecimalTable(dictionary))


def total(samples: Iterable[Sample]) -> ExactSum:
    """Return the sum of all numbers."""
    return reduce(ExactSum.__add__, (sample.sum() for sample in samples if len(sample)), ExactSum())


def percentiles(samples: Sequence[Sample], fractions: Sequence[float]) -> list[float | None]:
    """Return percentiles as `percentile_cont` of PostgreSQL does; None if there are no numbers.

    Fractions are from 0 to 1. Numbers beyond doubles are infinite.
    """
    count = sum(map(len, samples))
    if not count:
        return [None] * len(fractions)
    positions = [fraction * (count - 1) for fraction in fractions]
    ranks = sorted({rank for each in positions for rank in (math.floor(each), math.ceil(each))})
    values = dict(zip(ranks, _values_at(samples, ranks), strict=True))
    return [
        _between(values[math.floor(each)], values[math.ceil(each)], each - math.floor(each))
        for each in positions
    ]


def sums_by_group(
    samples: Sequence[Sample], groups: Sequence[NDArray[np.intp]], count: int
) -> Sample:
    """Return the exact sum of each of `count` groups; `groups` has the group of each number."""
    totals: dict[tuple[int, bool], list[NDArray[Any]]] = {}
    for sample, group in zip(samples, groups, strict=True):
        if len(sample):
            limbs = sample.limbs
            key = (sample.scale, limbs[0].dtype == np.object_)
            _add_by_group(totals.setdefault(key, []), limbs, group, count)
    scale = max((scale for scale, _ in totals), default=0)
    parts = [(_combined(limbs), each) for (each, _), limbs in totals.items()]
    if (scaled := _scaled_sums(parts, scale)) is not None:
        return ScaledSample(scaled, scale)
    units = np.zeros(count, np.object_)
    for integers, each in parts:
        units += integers.astype(np.object_) * 10 ** (scale - each)
    return _sample_of_units(units.tolist(), scale)


def _scaled_sums(parts: Sequence[tuple[NDArray[Any], int]], scale: int) -> NDArray[np.int64] | None:
    """Return the sums of integers with their scales; None if some may need over 64 bits.

    Parts of a column often differ in scale, and objects of Python would take much memory.
    """
    scaled = list[NDArray[np.int64]]()
    for integers, each in parts:
        sample = ScaledSample(integers, each)
        if integers.dtype != np.int64 or not sample.fits(scale):
            return None
        rescaled = sample.rescaled(scale)
        if not _is_within(rescaled, _INT64.max // len(parts)):
            return None
        scaled.append(rescaled)
    return np.asarray(reduce(np.add, scaled)) if scaled else None


def _units(limbs: Iterable[int]) -> int:
    """Return an integer from its limbs of 32 bits, the least significant first.

    All but the last are not negative. Sums of limbs are limbs of the sum, and sums of 2**31 numbers
    do not overflow 64 bits. A single limb may have any size, as an object of Python.
    """
    return sum(limb << (_LIMB_BITS * index) for index, limb in enumerate(limbs))


def _add_by_group(
    totals: list[NDArray[Any]], limbs: list[NDArray[Any]], group: NDArray[np.intp], count: int
) -> None:
    kind = np.object_ if limbs[0].dtype == np.object_ else np.int64
    totals.extend(np.zeros(count, kind) for _ in range(len(limbs) - len(totals)))
    for each, limb in zip(totals, limbs, strict=False):
        np.add.at(each, group, limb.astype(kind, copy=False))


def _combined(limbs: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the integers of limbs: of 64 bits if they fit, or else objects of Python."""
    if len(limbs) == 1:
        return limbs[0]
    if len(limbs) == 2 and _is_within(limbs[1], 2**30):
        return np.asarray((limbs[1] << _LIMB_BITS) + limbs[0])
    objects = [limb.astype(np.object_) << (_LIMB_BITS * at) for at, limb in enumerate(limbs)]
    return np.asarray(sum(objects[1:], objects[0]))


def _sample_of_units(units: list[int], scale: int) -> Sample:
    if all(_INT64.min <= each <= _INT64.max for each in units):
        return ScaledSample(np.array(units, np.int64), scale)
    texts = [decimal_text(ExactSum(each, scale).number) for each in units]
    return sample_of(number_values(pa.array(texts, pa.string())))


def _values_at(samples: Sequence[Sample], ranks: list[int]) -> list[float]:
    """Return the doubles at ranks, which begin with 0 for the least of all numbers."""
    present = [sample for sample in samples if len(sample)]
    scale = max(sample.scale if isinstance(sample, ScaledSample) else 0 for sample in present)
    if not all(isinstance(sample, ScaledSample) and sample.fits(scale) for sample in present):
        keys = _integers_at(_Parts(present, _double_keys), ranks)
        return _doubles_of(keys).tolist()  # type: ignore[no-any-return]
    integers = _integers_at(_Parts(present, lambda sample: sample.rescaled(scale)), ranks)
    power = 10**scale
    return [_nearest_double(each, power) for each in integers.tolist()]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Samples as integers, computed part by part whenever they are needed, to save memory."""

    samples: Sequence[Sample]
    integers_of: Callable[[Any], NDArray[np.int64]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return map(self.integers_of, self.samples)

    def __len__(self) -> int:
        return sum(map(len, self.samples))


def _double_keys(sample: Sample) -> NDArray[np.int64]:
    """Return integers that are in the order of the doubles of a sample."""
    bits = (sample.doubles() + 0.0).view(np.int64)  # there is one zero
    return np.where(bits < 0, bits ^ _INT64.max, bits)


def _doubles_of(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the doubles of `_double_keys`."""
    return np.where(keys < 0, keys ^ _INT64.max, keys).view(np.float64)


def _integers_at(parts: _Parts, ranks: list[int]) -> NDArray[np.int64]:
    """Return the integers at ranks.

    If they are many, they are counted in ever smaller intervals: sorting needs memory for a copy.
    """
    if len(parts) <= _MAX_SORTED:
        return np.asarray(np.sort(np.concatenate(list(parts)))[ranks])
    low = min(int(part.min()) for part in parts)
    high = max(int(part.max()) for part in parts)
    found = dict(_found(parts, low, high, ranks))
    return np.array([found[rank] for rank in ranks], np.int64)


def _found(
    parts: Iterable[NDArray[np.int64]], low: int, high: int, ranks: Sequence[int], skipped: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield each rank with its integer, which is from `low` to `high`; `skipped` are less."""
    shift = max((high - low).bit_length() - _BIN_BITS, 0)
    counts = np.zeros(((high - low) >> shift) + 1, np.int64)
    for part in parts:
        counts += np.bincount(_bins(part, low, high, shift), minlength=len(counts))
    ends = np.cumsum(counts) + skipped
    bins = np.searchsorted(ends, ranks, side="right")
    for each in np.unique(bins).tolist():
        first = low + (each << shift)
        members = [rank for rank, at in zip(ranks, bins, strict=True) if at == each]
        if not shift:
            yield from ((rank, first) for rank in members)
        else:
            last = min(first + (1 << shift) - 1, high)
            yield from _found(parts, first, last, members, int(ends[each] - counts[each]))


def _bins(part: NDArray[np.int64], low: int, high: int, shift: int) -> NDArray[np.intp]:
    """Return the number of the bin of each integer that is from `low` to `high`."""
    part = part.astype(np.int64, copy=False)
    part = part[(part >= low) & (part <= high)]
    # Differences of up to 64 bits are right as unsigned integers.
    offsets = part.view(np.uint64) - np.uint64(low % 2**64)
    return (offsets >> np.uint64(shift)).astype(np.intp)


def _between(low: float, high: float, proportion: float) -> float:
    difference = high - low
    if not proportion or low == high:
        return low
    if math.isinf(difference) and math.isfinite(low) and math.isfinite(high):
        return low * (1 - proportion) + high * proportion
    return low + proportion * difference


def _nearest_double(numerator: int, denominator: int) -> float:
    """Return the nearest double of a quotient; infinite if there is none."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def _is_within(integers: NDArray[Any], bound: int) -> bool:
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    return -bound <= low and high <= bound


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "JSON has no infinite numbers"
    return exponent
