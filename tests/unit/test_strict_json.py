"""JSON of which nothing is lost when it is stored: what the quick look takes is so."""

import json
from math import isinf
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.ingest.strict_json import NotStrict, are_strict, check_strict
from tests.example_counts import examples

KEYS = st.sampled_from(["a", "b", "a:", "\\u0061", "\\u003a", ":", "\\\\u003a", '\\":'])
NUMBERS = st.sampled_from(
    ["0", "-1.5e3", "1e308", "1e309", "-1e400", "9" * 308, "9" * 309, "1e-999"]
)
STRINGS = st.sampled_from(
    ['""', '":"', '"\\u003a"', '"\\":"', '"' + "9" * 400 + '"', '"{\\"a\\":1}"']
)
COLON = st.sampled_from([":", " :", " : ", ":\t"])


def _object(pairs: list[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f'"{key}"{colon}{value}' for key, colon, value in pairs) + "}"


VALUES = st.recursive(
    NUMBERS | STRINGS | st.just("null"),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: "[" + ",".join(values) + "]")
        | st.lists(st.tuples(KEYS, COLON, inner), max_size=3).map(_object)
    ),
    max_leaves=6,
)
OBJECTS = st.lists(st.tuples(KEYS, COLON, VALUES), max_size=4).map(_object)


def is_strict(text: str) -> bool:
    """By a walk over what the reader of Python gives."""

    def walk(value: Any) -> bool:
        if isinstance(value, tuple):  # the pairs of an object
            keys = [key for key, _ in value]
            return len(set(keys)) == len(keys) and all(walk(inner) for _, inner in value)
        if isinstance(value, list):
            return all(map(walk, value))
        return not (isinstance(value, int | float) and isinf(float(value)))

    return walk(json.loads(text, object_pairs_hook=tuple, parse_int=float))


@pytest.mark.thorough
@settings(max_examples=examples(400))
@example(['{"a":1,"a":"\\u003a"}'])
@given(st.lists(OBJECTS, min_size=1, max_size=3))
def test_what_is_taken_holds_each_key_once(texts: list[str]) -> None:
    if are_strict("\n".join(texts).encode(), len(texts)):
        assert all(map(is_strict, texts))
    for text in texts:
        assert (_reason(text) is None) == is_strict(text)


def _reason(text: str) -> str | None:
    try:
        check_strict(text)
    except NotStrict as exc:
        return str(exc)
    return None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": {"b": 1}, "c": "x:y"}', None),
        ('{"a": 1, "a": 1}', "must not have a key twice"),
        ('{"a": [{"b": 1, "b": 1}]}', "must not have a key twice"),
        ('{"a": 1e309}', "must not hold numbers beyond 1.8e308"),
        ('{"a": NaN}', "must be valid JSON"),
        ('{"a": ', "must be valid JSON"),
        ("[" * 100_000, "must be valid JSON"),
    ],
)
def test_reasons(text: str, reason: str | None) -> None:
    assert _reason(text) == reason


def test_the_quick_look_takes_what_is_usual() -> None:
    usual = ['{"path":"/a:b","n":1.5,"deep":{"x":[1,{"y":null}]}}', '{"ü" : "\\u00fc\\n"}', "{}"]
    assert are_strict("\n".join(usual).encode(), len(usual))
