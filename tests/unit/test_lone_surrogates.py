"""Lone surrogates in JSON are found, and characters of two escapes are not."""

import time

import pytest

from services.ingest.lone_surrogates import lone_surrogate_field, replace_lone_surrogates
from tests.wait_until import adjusted_for_load


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        (rb'["\ud800"]', rb'["\ufffd"]'),
        (rb'["\uDC00\ud800"]', rb'["\ufffd\ufffd"]'),
        (rb'["\ud83d\ude00\ud83d"]', rb'["\ud83d\ude00\ufffd"]'),
        (rb'["\\\ud800\\ud800"]', rb'["\\\ufffd\\ud800"]'),
        (rb'["\ud83d\ude00"]', None),
        (rb'["\\ud800"]', None),
        (b"[1]", None),
    ],
)
def test_lone_surrogates_are_replaced(text: bytes, replaced: bytes | None) -> None:
    assert replace_lone_surrogates(text) == replaced


def test_a_text_of_many_is_given_up() -> None:
    assert replace_lone_surrogates(rb"\ud800" * 10_000) == rb"\ufffd" * 10_000
    assert replace_lone_surrogates(rb"\ud800" * 10_002) is None


@pytest.mark.parametrize("part", [rb"\\", rb"\u0041", rb"\ud800", rb"\ud83d\ude00", b"a"])
def test_the_time_is_linear(part: bytes) -> None:
    """A machine at rest takes 0.2 s."""
    began = time.monotonic()
    replace_lone_surrogates(part * (2**24 // len(part)))
    assert time.monotonic() - began < adjusted_for_load(3)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (r'{"a": 1, "b": ["\ud800"]}', "b"),
        (r'{"a": {"\udc00": 1}}', "a"),
        (r'{"a": 1, "\udc00": 1}', ""),
        (r'["\udc00"]', ""),
        (r'{"a": "\ud83d\ude00"}', None),
        (r'{"a": "\ud800"', None),
        ("[" * 100_000, None),
    ],
)
def test_the_field_is_named(text: str, field: str | None) -> None:
    assert lone_surrogate_field(text) == field
