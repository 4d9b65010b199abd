"""What is small as it is sent and very large once it is parsed is refused before it is parsed."""

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from common.errors import InvalidEvents, TooLarge
from services.ingest.http_body import MAX_INFLATED_BYTES, Form
from services.ingest.http_events import read_events
from services.ingest.json_limits import MAX_EVENT_BYTES, MAX_EVENT_VALUES, JsonLimits
from services.ingest.validation import Invalid
from tests.api.requests import array, ndjson

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
FORMS: dict[str, tuple[Form, Callable[..., bytes]]] = {
    "one event": ("json", bytes),
    "array": ("json", array),
    "ndjson": ("ndjson", ndjson),
}


def event(properties: bytes) -> bytes:
    return b'{"event_name":"x","properties":{"a":' + properties + b"}}"


def many(value: bytes, size: int) -> bytes:
    return b"[" + b",".join([value] * (size // (len(value) + 1))) + b"]"


def refusal(text: bytes, form: Form) -> str:
    with pytest.raises(InvalidEvents) as refused:
        read_events(text, form, NOW)
    (fault, *_) = refused.value.faults
    return f"{fault.parameter} {fault.message}"


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("value", [b"[]", b'{"b":0}'])
def test_a_large_event_is_refused_and_never_parsed(form: str, value: bytes) -> None:
    """As objects these would take 90 to 450 MB."""
    kind, made_of = FORMS[form]
    text = made_of(event(many(value, MAX_INFLATED_BYTES - 100)))
    tracemalloc.start()
    reason = refusal(text, kind)
    _, maximum = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason == "(event) must be at most 256 kB long"
    assert maximum < 3 * MAX_INFLATED_BYTES


def test_the_longest_event() -> None:
    space = MAX_EVENT_BYTES - len(event(b"0"))
    assert len(read_events(event(b" " * space + b"0"), "json", NOW)) == 1
    assert refusal(event(b" " * (space + 1) + b"0"), "json").startswith("(event) must be at most")


@pytest.mark.parametrize(("value", "separators"), [(b"0", 1), (b"[]", 2), (b"{}", 2)])
def test_the_most_values_of_an_event(value: bytes, separators: int) -> None:
    """Three brackets stand around them, and a comma is missing."""
    maximum = (MAX_EVENT_VALUES - 3) // separators
    room = len(value) + 1
    allowed, refused = (event(many(value, count * room)) for count in (maximum, maximum + 2))
    JsonLimits(allowed).check(allowed)
    with pytest.raises(Invalid, match="properties must be an object of less than 64 kB"):
        JsonLimits(refused).check(refused)


@pytest.mark.parametrize("form", ["array", "ndjson"])
def test_values_are_counted_over_all_events(form: str) -> None:
    kind, made_of = FORMS[form]
    some = event(many(b"0", 2 * 20_000))
    assert len(read_events(made_of(*[some] * 49), kind, NOW)) == 49
    with pytest.raises(TooLarge) as refused:
        read_events(made_of(*[some] * 50), kind, NOW)
    assert [fault.message for fault in refused.value.faults] == [
        "must hold at most 1,000,000 JSON values"
    ]


@pytest.mark.parametrize(
    "text", [b'"' + b",[{" * 20_000 + b'"', b'"' + rb"\"," * 20_000 + b'"'], ids=["plain", "quoted"]
)
def test_what_stands_in_strings_is_no_value(text: bytes) -> None:
    assert len(read_events(ndjson(*[event(text)] * 40), "ndjson", NOW)) == 40


@pytest.mark.parametrize("rest", [b'\\"', b'"', b"\\", b"\\\\", b'","'])
def test_strings_without_an_end_are_looked_at_once(rest: bytes) -> None:
    """Whoever went back for each of them would need hours."""
    text = b'{"' + b"," * 40_000 + rest * 100_000
    assert refusal(text[:MAX_EVENT_BYTES], "ndjson") in (
        "(event) must be valid JSON",
        "properties must be an object of less than 64 kB",
    )
