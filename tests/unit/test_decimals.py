"""The text of decimal numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.decimals import decimal_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("5.00", "5"),
        ("5e0", "5"),
        ("-0.0", "0"),
        ("0e400", "0"),
        ("-1.50", "-1.5"),
        ("1e20", "1" + "0" * 20),
        ("1e21", "1e21"),
        ("120e20", "12e21"),
        ("1e-20", "0." + "0" * 19 + "1"),
        ("1e-21", "1e-21"),
        ("12345678901234567890.12345", "12345678901234567890.12345"),
        ("9" * 60_000, "9" * 60_000),
    ],
)
def test_numbers_have_one_short_form(number: str, text: str) -> None:
    assert decimal_text(Decimal(number)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_the_form_has_the_exact_value(number: Decimal) -> None:
    assert Decimal(decimal_text(number)) == number
