"""What is sent is read as it is meant, or refused in words of ours, whatever it is."""

import json
import re
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import AnalyticsError, InvalidEvents, TooLarge, UnreadableBody
from common.event_models import NewEvent
from repo.ingest import Event
from services.ingest import http_event_validation
from services.ingest.http_body import MAX_INFLATED_BYTES, Coding, Form, inflate
from services.ingest.http_event_validation import (
    MAX_EVENT_BYTES,
    MAX_EVENT_VALUES,
    EventBody,
    JsonLimits,
    time_ordered_uuid,
)
from services.ingest.validation import FIELDS, Invalid
from tests.api.requests import ENCODERS, array, ndjson

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20
)
PROPERTIES = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {"event_name": NAMES},
        optional={
            "user_id": st.none() | TEXTS,
            "occurred_at": st.datetimes(
                datetime(2000, 1, 2), datetime(2026, 1, 30), timezones=st.just(UTC)
            ).map(datetime.isoformat),
            "properties": st.none() | PROPERTIES,
        },
    ),
    max_size=6,
)


_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}


def read_events(text: bytes, form: Form, now: datetime) -> list[Event]:
    """The events of a body, from their rows in the text format of COPY."""
    rows = http_event_validation.read_events(text, form, now).rows
    return [Event(*map(_unescaped, row.split("\t"))) for row in rows]


def _unescaped(text: str) -> str:
    return re.sub(r"\\[tnr\\]", lambda match: _ESCAPES[match[0]], text)


@given(EVENTS, st.sampled_from([ndjson, array]), st.sampled_from(sorted(ENCODERS)))
def test_what_is_sent_is_read(sent: list[dict[str, Any]], form: Any, coding: Coding) -> None:
    text = inflate(ENCODERS[coding](form(*sent)), coding)
    read = read_events(text, "json" if form is array else "ndjson", NOW)
    assert [
        (event.user_id, event.event_name, event.occurred_at, json.loads(event.properties))
        for event in read
    ] == [
        (
            event.get("user_id") or "",
            event["event_name"],
            event.get("occurred_at", NOW.isoformat()),
            event.get("properties") or {},
        )
        for event in sent
    ]


ANYTHING = st.binary(max_size=60) | st.text(
    st.sampled_from('{}[],:"\\\n 0123456789.eE+-u\x00dDfuseritnam_'), max_size=80
).map(str.encode)


@given(ANYTHING, st.sampled_from(["json", "ndjson"]))
@example(b'{"event_name":"a","properties":{"a":1e999999999999999999}}', "json")
@example(b'{"event_name":"a","user_id":1e400}', "json")
@example(b'{"a - at `$.event_id`":1}', "json")
@example(b'{"event_id":{"event_id":1}}', "json")
@example(b"\xef\xbb\xbf\xef\xbb\xbf{}", "json")
def test_anything_is_read_or_refused(text: bytes, form: Form) -> None:
    refused: AnalyticsError | None = None
    try:
        read_events(text, form, NOW)
    except AnalyticsError as error:
        refused = error
    if refused:
        assert refused.status in (400, 413, 422)
        named = {fault.parameter for fault in refused.faults}
        assert named <= {*FIELDS, "(event)", "(unknown)", "(body)"}


IDS = st.integers(0, 3).map("00000000-0000-4000-8000-{:012}".format)
ODD = st.one_of(
    st.builds('"event_id":"{}","occurred_at":"2025-01-31T09:00:00{}"'.format, IDS,
              st.sampled_from(["Z", "+01:00", "", "-16:00", "+0100"])),
    st.builds('"event_id":"{}","occurred_at":"2026-01-3{}Z"'.format, IDS,
              st.sampled_from(["1T09:04:59", "1T09:05:01", "2T00:00:00", "1 08:59:59.5"])),
    st.builds('"event_id":{}'.format, IDS.map(json.dumps) | st.sampled_from(["null", '""', "1"])),
    st.builds('"user_id":{}'.format,
              st.sampled_from(["null", '""', '"u"', "1", f'"{"u" * 60}"', f'"{"u" * 257}"',
                               '"\\u0000"', '"\\u003a"', '"a\\tb"', '"\\ud800"'])),
    st.builds('"properties":{}'.format,
              st.sampled_from(["null", "{}", "[]", '{"a":1}', '{"a":1,"a":2}', '{"a":"\\u0000"}',
                               '{"a":"\\u00e9"}', '{"a":1e400}', '{"a":\r1}', '{"a":NaN}', "1"])),
    st.sampled_from(['"event_name":"b"', '"event_name":""', '"other":1']),
)  # fmt: skip
LINES = st.builds('{{"event_name":"a"{}}}'.format, st.lists(ODD, max_size=2).map(
    lambda fields: "".join(f",{field}" for field in fields)
)) | st.sampled_from(
    ['{"event_name":"a"', ',"user_id":"u"}', '{"event_name":"a"},{"event_name":"b"}', " {} ", "[]"]
)  # fmt: skip


@given(st.lists(LINES, min_size=1, max_size=5))
@example(['{"event_name":"a"', ',"user_id":"u"}', '{"event_name":"a"}{"event_name":"b"}'])
@example(['{"event_name":"a"}', '{"event_name":"b"'])
def test_events_are_read_the_same_at_once_and_one_by_one(lines: list[str]) -> None:
    at_once = _outcome(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_event_validation, "_read_blocks", lambda *_: [])
        assert _outcome(lines) == at_once


def _outcome(lines: list[str]) -> Any:
    """The events of these lines, or the faults."""
    try:
        events = read_events("\n".join(lines).encode(), "ndjson", NOW)
    except AnalyticsError as error:
        return [(fault.parameter, fault.message, fault) for fault in error.faults]
    return [
        event._replace(
            event_id="" if '"event_id":"' not in line else event.event_id,
            occurred_at=datetime.fromisoformat(event.occurred_at).astimezone(UTC).isoformat(),
        )
        for event, line in zip(events, lines, strict=True)
    ]


def test_one_unusual_event_among_many_is_read_as_all_others() -> None:
    names = [f"name{n}" for n in range(1_000)]
    names[537] = "n" * 60
    text = ndjson(*({"event_name": name} for name in names))
    assert [event.event_name for event in read_events(text, "ndjson", NOW)] == names


def test_a_fault_is_told_with_the_number_of_its_event() -> None:
    names = [f"name{n}" for n in range(1_000)]
    names[537] = names[999] = ""
    with pytest.raises(InvalidEvents) as refused:
        read_events(array(*({"event_name": name} for name in names)), "json", NOW)
    assert [getattr(fault, "index", None) for fault in refused.value.faults] == [537, 999]


@given(EVENTS.filter(bool), st.data(), st.sampled_from(["gzip", "zstd"]))
def test_what_is_cut_off_is_never_taken_for_whole(
    sent: list[dict[str, Any]], data: st.DataObject, coding: Coding
) -> None:
    complete = ENCODERS[coding](ndjson(*sent))
    cut = data.draw(st.integers(0, len(complete) - 1))
    with pytest.raises(UnreadableBody):
        inflate(complete[:cut], coding)


@given(ANYTHING, st.sampled_from(["gzip", "zstd"]))
def test_what_is_not_compressed_is_refused(text: bytes, coding: Coding) -> None:
    with pytest.raises(UnreadableBody):
        inflate(text, coding)


def test_ids_of_one_request_differ_and_tell_the_time() -> None:
    read = read_events(b"\n".join([b'{"event_name":"a"}'] * 1000), "ndjson", NOW)
    ids = {UUID(event.event_id) for event in read}
    assert len(ids) == 1000
    for new_ids in ids:
        assert (new_ids.version, new_ids.variant) == (7, "specified in RFC 4122")
        assert new_ids.int >> 80 == NOW.timestamp() * 1000


def test_ids_begin_with_the_time_as_in_the_example_of_the_rfc() -> None:
    """The example of RFC 9562, appendix A.6, is 017F22E2-79B0-7CC3-98C4-DC0C0C07398F."""
    instant = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert time_ordered_uuid(instant).startswith("017f22e2-79b0-7")


def test_ids_of_later_moments_are_later() -> None:
    moments = [NOW + timedelta(milliseconds=n) for n in range(1000)]
    ids = [time_ordered_uuid(instant) for instant in moments]
    assert ids == sorted(ids)


def test_the_number_of_the_event_is_its_place_among_events() -> None:
    with pytest.raises(InvalidEvents) as refused:
        read_events(b'\n\n{"event_name":"a"}\n \n{}\n', "ndjson", NOW)
    assert [getattr(fault, "index", None) for fault in refused.value.faults] == [1]


def test_all_fields_are_described() -> None:
    assert tuple(NewEvent.model_fields) == EventBody.__struct_fields__ == FIELDS


def test_the_examples_of_the_description_are_taken() -> None:
    described = NewEvent.model_json_schema()["properties"]
    example_event = {name: described[name]["examples"][0] for name in FIELDS}
    (read,) = read_events(json.dumps(example_event).encode(), "json", NOW + timedelta(days=1))
    assert read.event_id == example_event["event_id"]


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
    JsonLimits([allowed]).check(allowed)
    with pytest.raises(Invalid, match="properties must be an object of less than 64 kB"):
        JsonLimits([refused]).check(refused)


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
