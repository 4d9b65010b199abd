"""Statistics agree with exact arithmetic of Python, however numbers are stored and split."""

import math
from collections import defaultdict
from collections.abc import Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.columns import statistics
from repo.columns.exact_numbers import number_values
from repo.columns.statistics import (
    DecimalSample,
    ExactSum,
    Sample,
    ScaledSample,
    percentiles,
    sample_of,
    sums_by_group,
    total,
)
from tests.columns import decimals
from tests.example_counts import examples

EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
FRACTIONS = [0.0, 0.005, 0.5, 0.95, 0.998, 1.0]

amounts = st.decimals(min_value=-100, max_value=100, places=2)
large = st.integers(2**62, 2**63 - 1).flatmap(lambda n: st.sampled_from([n, -n])).map(Decimal)
fine = st.integers(-(10**30), 10**30).map(lambda n: Decimal(n).scaleb(-20, EXACT))
numbers = st.one_of(amounts, st.integers(-3, 3).map(Decimal), large, fine, decimals)
parts = st.sampled_from([amounts, large, fine, numbers]).flatmap(
    lambda each: st.lists(st.lists(each, min_size=1, max_size=6), max_size=4)
)


def sample(*values: Decimal | int | str) -> Sample:
    return sample_of(number_values(pa.array(list(map(str, values)), pa.string())))


def exact_sum(values: Sequence[Decimal]) -> Decimal:
    result = Decimal()
    for value in values:
        result = EXACT.add(result, value)
    return result


def nearest(number: Decimal | Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def percentile(values: Sequence[Decimal], fraction: float) -> float:
    """As PostgreSQL's `percentile_cont`."""
    doubles = sorted(map(float, values))
    position = fraction * (len(doubles) - 1)
    low, high = doubles[math.floor(position)], doubles[math.ceil(position)]
    return low if low == high else low + (position - math.floor(position)) * (high - low)


@given(lists=parts)
@settings(max_examples=examples(600))
def test_sums_and_averages_are_exact(lists: list[list[Decimal]]) -> None:
    values = [value for part in lists for value in part]
    result = total(sample(*part) for part in lists)
    assert result.number == exact_sum(values)
    if values:
        average = Fraction(exact_sum(values)) / len(values)
        assert result.divided_by(len(values)) == nearest(average)


@given(lists=parts)
@settings(max_examples=examples(600))
def test_extremes_are_exact(lists: list[list[Decimal]]) -> None:
    for part in lists:
        assert (sample(*part).least(), sample(*part).greatest()) == (min(part), max(part))


@given(lists=parts, most_sorted=st.sampled_from([0, 5, 2**22]), bits=st.sampled_from([1, 4, 16]))
@settings(max_examples=examples(600))
def test_percentiles_interpolate_doubles(
    lists: list[list[Decimal]], most_sorted: int, bits: int
) -> None:
    values = [value for part in lists for value in part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_MAX_SORTED", most_sorted)
        patch.setattr(statistics, "_BIN_BITS", bits)
        result = percentiles([sample(*part) for part in lists], FRACTIONS)
    if not values:
        assert result == [None] * len(FRACTIONS)
        return
    expected = [percentile(values, fraction) for fraction in FRACTIONS]
    if all(map(math.isfinite, expected)):
        assert result == expected


@given(lists=parts, data=st.data())
@settings(max_examples=examples(600))
def test_sums_by_group_are_exact(lists: list[list[Decimal]], data: st.DataObject) -> None:
    groups = [[data.draw(st.integers(0, 2)) for _ in part] for part in lists]
    expected: dict[int, Decimal] = defaultdict(Decimal)
    for part, chosen in zip(lists, groups, strict=True):
        for value, group in zip(part, chosen, strict=True):
            expected[group] = EXACT.add(expected[group], value)
    arrays = [np.array(chosen, np.intp) for chosen in groups]
    result = sums_by_group([sample(*part) for part in lists], arrays, 3)
    assert len(result) == 3
    for group in range(3):
        assert result.at(slice(group, group + 1)).sum().number == expected[group]


def test_sums_of_parts_that_differ_in_scale_are_integers_of_one() -> None:
    groups = [np.array([0, 1], np.intp), np.array([1], np.intp)]
    sums = sums_by_group([sample("1.5", "-2.25"), sample(3)], groups, 2)
    assert isinstance(sums, ScaledSample)
    assert (sums.scaled.tolist(), sums.scale) == ([150, 75], 2)
    many = sums_by_group([sample("0.1", 2), sample(2**62)], groups, 2)
    assert [many.at(slice(n, n + 1)).sum().number for n in range(2)] == [
        Decimal("0.1"),
        2**62 + 2,
    ]


def test_percentiles_of_known_numbers() -> None:
    assert percentiles([sample(1, 2, 3, 4)], [0.5, 0.25, 1.0]) == [2.5, 1.75, 4.0]
    assert percentiles([sample("0.5", 10), sample(7)], [0.5, 0.75]) == [7.0, 8.5]
    assert percentiles([sample(7)], [0.0, 0.5, 1.0]) == [7.0, 7.0, 7.0]


def test_percentiles_between_the_ends_of_doubles_do_not_overflow() -> None:
    assert percentiles([sample("1e308", "-1e308")], [0.5]) == [0.0]
    assert percentiles([sample("1.5e308", "-1.5e308")], [0.5, 0.75]) == [0.0, 0.75e308]
    assert percentiles([sample("1e400", "-1e400", 5)], [0.0, 0.5, 1.0]) == [-math.inf, 5, math.inf]


def test_numbers_beyond_64_bits_have_a_sum_and_an_order() -> None:
    highest = 2**63 - 1
    values = sample(highest, highest, -5)
    assert isinstance(values, ScaledSample)
    assert values.sum().number == 2 * highest - 5
    huge = sample("1e400", "-1e-400", 1)
    assert isinstance(huge, DecimalSample)
    assert huge.sum().number == exact_sum([Decimal("1e400"), Decimal("-1e-400"), Decimal(1)])
    assert (huge.least(), huge.greatest()) == (Decimal("-1e-400"), Decimal("1e400"))


@pytest.mark.parametrize(
    ("units", "scale", "count", "expected"),
    [(10, 0, 3, 10 / 3), (1, 1, 1, 0.1), (2**53 + 1, 0, 1, 2.0**53), (-(10**400), 0, 2, -math.inf)],
)
def test_averages_are_the_nearest_doubles(
    units: int, scale: int, count: int, expected: float
) -> None:
    assert ExactSum(units, scale).divided_by(count) == expected


def test_parts_of_a_sample_are_samples() -> None:
    for values in (sample(3, 1, 2), sample("1e400", "-1e400", "0.5")):
        part = values.at(np.array([0, 2]))
        assert len(part) == 2
        assert part.at(slice(1, 2)).sum() == values.at(slice(2, 3)).sum()
