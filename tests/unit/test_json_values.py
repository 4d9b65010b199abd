"""The values of JSON objects by path and type, as `verify` compares them."""

import pytest

from repo.verify.fingerprints import Property
from repo.verify.json_values import number_text, read_objects


def values(*texts: str) -> dict[Property, tuple[list[int], list[object]]]:
    found = read_objects(text.encode() for text in texts)
    return {key: (column.rows, column.values) for key, column in found.items()}


def test_values_are_listed_by_path_and_type() -> None:
    assert values('{"a": "5", "b": 1.50}', '{"a": 5, "b": true, "c": null}') == {
        Property(("a",), "text"): ([0], ["5"]),
        Property(("b",), "number"): ([0], ["1.5"]),
        Property(("a",), "number"): ([1], ["5"]),
        Property(("b",), "boolean"): ([1], [True]),
    }


def test_lists_are_flattened_in_their_order() -> None:
    text = '{"items": [{"sku": "a", "tags": ["x", ["y", 1]]}, {"sku": "b"}, {}, null]}'
    assert values("{}", text) == {
        Property(("items", "sku"), "text"): ([1, 1], ["a", "b"]),
        Property(("items", "tags"), "text"): ([1, 1], ["x", "y"]),
        Property(("items", "tags"), "number"): ([1], ["1"]),
    }


def test_keys_with_points_are_not_paths() -> None:
    assert values('{"a.b": 1, "a": {"b": 2}}') == {
        Property(("a.b",), "number"): ([0], ["1"]),
        Property(("a", "b"), "number"): ([0], ["2"]),
    }


def test_deep_objects_are_read() -> None:
    text = f'{{"a": {"[" * 5_000}"x:,\\"\\u00e9", {{"b": -1.0, "c": false}}{"]" * 5_000}}}'
    assert values(text) == {
        Property(("a",), "text"): ([0], ['x:,"\u00e9']),
        Property(("a", "b"), "number"): ([0], ["-1"]),
        Property(("a", "c"), "boolean"): ([0], [False]),
    }


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10", "10"),
        ("1.10", "1.1"),
        ("-0.00", "0"),
        ("1E+3", "1000"),
        ("2.5e-3", "0.0025"),
        ("12345678901234567890.50", "12345678901234567890.5"),
    ],
)
def test_equal_numbers_have_one_text(text: str, canonical: str) -> None:
    assert number_text(text) == canonical
