"""Values in answers: exact numbers, and their types."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from common.property_values import json_value, value_type

CASES = [
    (None, "null", "missing"),
    (True, "true", "boolean"),
    ("5", '"5"', "text"),
    ("", '""', "text"),
    (Decimal("5.00"), "5", "number"),
    (Decimal("12345678901234567890.5"), "12345678901234567890.5", "number"),
]


@pytest.mark.parametrize(("value", "text", "kind"), CASES)
def test_values_are_exact_and_keep_their_type(value: Any, text: str, kind: str) -> None:
    shown = json_value(value)
    assert msgspec.json.encode(shown).decode() == text
    assert value_type(shown) == kind
