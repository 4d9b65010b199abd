"""Canonical numbers: equal numbers have equal arrays, however they are written."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.columns.chunk import DecimalNumbers, ScaledNumbers
from repo.columns.exact_numbers import number_values, united_numbers
from tests.columns import decimals
from tests.example_counts import examples

ExactNumbers = ScaledNumbers | DecimalNumbers


def values(*texts: str) -> ExactNumbers:
    return number_values(pa.array(texts, pa.string()))


def form(numbers: ExactNumbers) -> Any:
    """Return all that makes numbers equal, or not."""
    if isinstance(numbers, ScaledNumbers):
        return numbers.scale, numbers.scaled.dtype, numbers.scaled.tolist()
    return numbers.dictionary.to_pylist(), numbers.codes.dtype, numbers.codes.tolist()


@pytest.mark.parametrize(
    ("texts", "dictionary"),
    [
        (["1e25", "1e-38"], ["0." + "0" * 37 + "1", "1" + "0" * 25]),
        (["1" + "0" * 25, "0." + "0" * 37 + "10"], ["0." + "0" * 37 + "1", "1" + "0" * 25]),
        (["-1" + "0" * 37, "0.50"], ["-1" + "0" * 37, "0.5"]),
        (["9" * 38 + "." + "9" * 38, "-0.0", "0"], ["0", "9" * 38 + "." + "9" * 38]),
        (["1e38", "1e-39", "1e2"], ["1e-39", "100", "1e38"]),
        (["1" + "0" * 38, "-120e37"], ["-12e38", "1e38"]),
    ],
)
def test_dictionaries_have_the_shortest_texts_in_the_order_of_values(
    texts: list[str], dictionary: list[str]
) -> None:
    numbers = values(*texts)
    assert isinstance(numbers, DecimalNumbers)
    assert numbers.dictionary.to_pylist() == dictionary


def test_numbers_that_javascript_writes_are_parsed_without_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("repo.columns.exact_numbers._sorted_with_python", None)
    numbers = values("0.30000000000000004", "123.30000000000001", "0.000000012345678901234567")
    assert isinstance(numbers, DecimalNumbers)
    assert numbers.codes.tolist() == [1, 2, 0]
    assert form(united_numbers([numbers, values("1.5")]))[0] == [
        "0.000000012345678901234567", "0.30000000000000004", "1.5", "123.30000000000001",
    ]  # fmt: skip


@settings(max_examples=examples(600), deadline=None)
@given(st.lists(decimals, min_size=1, max_size=6), st.data())
def test_equal_numbers_have_equal_arrays(numbers: list[Decimal], data: st.DataObject) -> None:
    """However they are written, and whatever parts they are united from."""
    plain = values(*map(str, numbers))
    other = values(*(f"{each:f}" if abs(each.adjusted()) < 500 else str(each) for each in numbers))
    assert form(other) == form(plain)
    cut = data.draw(st.integers(0, len(numbers)))
    parts = [values(*map(str, part)) for part in (numbers[:cut], numbers[cut:]) if part]
    assert form(united_numbers(parts)) == form(plain)


@settings(max_examples=examples(600), deadline=None)
@given(st.lists(decimals, min_size=1, max_size=6))
def test_numbers_are_exact_and_scaled_if_they_fit(numbers: list[Decimal]) -> None:
    exact = values(*map(str, numbers))
    fractions = [0]
    for number in numbers:
        _, digits, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        if number:
            zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
            fractions.append(-exponent - zeros)
    scale = max(fractions)
    fits = scale <= 18 and all(
        -(2**63) <= number.scaleb(scale) <= 2**63 - 1 if number.adjusted() < 20 else not number
        for number in numbers
    )
    assert isinstance(exact, ScaledNumbers) == fits
    if isinstance(exact, ScaledNumbers):
        assert exact.scale == scale
        assert [Decimal(each) for each in exact.scaled.tolist()] == [
            number.scaleb(scale) for number in numbers
        ]
    else:
        dictionary = [Decimal(text) for text in exact.dictionary.to_pylist()]
        assert [dictionary[code] for code in exact.codes] == numbers
        assert dictionary == sorted(set(numbers))
    assert not np.issubdtype(form(exact)[1], np.unsignedinteger)
