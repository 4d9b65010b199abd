"""Decoding of JSON with exact numbers, and of JSON that the decoder of msgspec refuses."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from repo.columns import json_decoder
from repo.columns.json_decoder import decode, decode_lines
from tests.columns import objects, to_json
from tests.example_counts import examples


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 9007199254740993}', {"a": 2**53 + 1}),
        ('{"a": 1.10, "b": -0.0, "c": 1e400}', {"a": b"1.10", "b": b"-0.0", "c": b"1e400"}),
        ('{"": [null, true, false, {}, []]}', {"": [None, True, False, {}, []]}),
        (r'{"\u00e9\"": "\\\ud83d\ude00"}', {'é"': "\\\U0001f600"}),
    ],
)
def test_numbers_are_integers_or_their_text(text: str, value: Any) -> None:
    assert decode(text) == value
    assert decode(text.encode()) == value
    assert decode(memoryview(text.encode())) == value


@pytest.mark.parametrize("digits", [4_300, 4_301, 60_000])
def test_integers_of_any_length_are_decoded(digits: int) -> None:
    value = decode(b'{"a": -1' + b"0" * (digits - 1) + b', "b": 5, "c": "5"}')
    assert Decimal(number_text(value["a"])) == -Decimal(f"1e{digits - 1}")
    assert (number_text(value["b"]), value["c"]) == ("5", "5")


@pytest.mark.parametrize("depth", [900, 30_000])
def test_lists_of_any_depth_are_decoded(depth: int) -> None:
    value = decode('{"a": ' + "[" * depth + '"]}", {"b": [1]}' + "]" * depth + ', "c": true}')
    inner = value["a"]
    for _ in range(depth - 1):
        (inner,) = inner
    assert inner[0] == "]}"
    assert number_text(inner[1]["b"][0]) == "1"
    assert value["c"] is True


@settings(max_examples=examples(300), deadline=None)
@given(objects)
def test_both_decoders_return_the_same_values(value: dict[str, Any]) -> None:
    for text in (to_json(value), to_json(value).replace(",", " , ").replace(":", " : ")):
        assert plain(json_decoder._decode_iteratively(text)) == plain(json_decoder.decode(text))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [b'{"a": 1}', b"{}", b'{"a": 1.50}'],
        [b'{"a": 1}', '{"a": "\u00e9"}'],
        [b'{"a":\n 1}', b'\n{"a": 2}\n'],
        [b"{}", b'{"a": 1' + b"0" * 5_000 + b"}", b'{"a": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"],
    ],
)
def test_several_texts_are_decoded_as_each_by_itself(texts: list[bytes | str]) -> None:
    assert list(map(repr_of_depth, decode_lines(texts))) == [
        repr_of_depth(decode(text)) for text in texts
    ]


def repr_of_depth(value: Any) -> Any:
    """Return a value, or its depth if it is a deep list, which Python does not compare."""
    inner, depth = value.get("a"), 0
    while isinstance(inner, list):
        inner, depth = inner[0] if inner else None, depth + 1
    return depth or value


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    is_number = isinstance(value, int | bytes) and not isinstance(value, bool)
    return ("number", Decimal(number_text(value))) if is_number else value


def number_text(number: int | bytes) -> str:
    return number.decode() if isinstance(number, bytes) else str(number)
