"""What is sent is read as it is meant, or refused in words of ours, whatever it is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import AnalyticsError, InvalidEvents, UnreadableBody
from common.event_models import NewEvent
from services.ingest.http_body import Coding, Form, inflate
from services.ingest.http_events import EventBody, read_events
from services.ingest.validation import FIELDS
from tests.api.requests import ENCODERS, array, ndjson
from utils.uuid7 import time_ordered_uuid

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
