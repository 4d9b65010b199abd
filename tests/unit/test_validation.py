"""What can be stored as an event, and the reason why other things cannot."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo.ingest import Event
from services.ingest.validation import Invalid, RawEvent, Validator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "8e2b1f52-64a3-4f0f-9f2c-0d9f0a9b6a01"
GOOD = RawEvent(ID, "u", "view", "2025-01-31T09:00:00+01:00", '{"a": 1}')


def validated(tz: ZoneInfo | None = None, **other: Any) -> Event:
    return Validator(tz, lambda: NOW)(GOOD._replace(**other))


def test_a_good_event_is_taken() -> None:
    assert validated() == (ID, "u", "view", "2025-01-31T08:00:00+00:00", '{"a": 1}')


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("event_id", ID.upper(), ID),
        ("event_id", ID.replace("-", ""), ID),
        ("user_id", None, ""),
        ("user_id", "", ""),
        ("user_id", 42, "42"),
        ("user_id", "x" * 256, "x" * 256),
        ("event_name", "n" * 200, "n" * 200),
        ("occurred_at", "2025-01-31 09:00:00Z", "2025-01-31T09:00:00+00:00"),
        ("occurred_at", "2025-01-31t09:00:00z", "2025-01-31T09:00:00+00:00"),
        ("occurred_at", "2025-01-31T09:00:00.123456789Z", "2025-01-31T09:00:00.123456+00:00"),
        ("occurred_at", "2025-01-31 09:00:00 +0100", "2025-01-31T08:00:00+00:00"),
        ("occurred_at", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00+00:00"),
        ("properties", None, "{}"),
        ("properties", "", "{}"),
        ("properties", '{"n": 123456789012345678901234567890}', None),
        ("properties", '{"text": "\\u00fc \\ud83d\\ude00"}', None),
    ],
)
def test_what_else_is_taken(field: str, value: Any, stored: str | None) -> None:
    assert getattr(validated(**{field: value}), field) == (value if stored is None else stored)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("event_id", None, "event_id is missing"),
        ("event_id", "", "event_id is missing"),
        ("event_id", "7", "event_id must be a UUID"),
        ("event_id", f"{{{ID}}}", "event_id must be a UUID"),
        ("event_id", ID + "0", "event_id must be a UUID"),
        ("event_id", ID[:8] + ID[9:], "event_id must be a UUID"),
        ("event_name", None, "event_name is missing"),
        ("event_name", "", "event_name is missing"),
        ("event_name", "n" * 201, "event_name must be at most 200 bytes long"),
        ("event_name", "ü" * 101, "event_name must be at most 200 bytes long"),
        ("event_name", "a\x00b", "event_name must not contain a NUL character"),
        ("event_name", 7, "event_name must be text"),
        ("user_id", "u\x00", "user_id must not contain a NUL character"),
        ("user_id", "u" * 257, "user_id must be at most 256 bytes long"),
        ("user_id", True, "user_id must be text"),
        ("occurred_at", None, "occurred_at is missing"),
        ("occurred_at", "2025-01-31T09:00:00", "occurred_at must have an offset"),
        ("occurred_at", "1738314000", "occurred_at must be a time such as"),
        ("occurred_at", "2025-02-30T09:00:00Z", "occurred_at must be a time such as"),
        ("occurred_at", "2025-W05-1T09:00:00Z", "occurred_at must be a time such as"),
        ("occurred_at", "٢٠٢٥-01-31T09:00:00Z", "occurred_at must be a time such as"),
        ("occurred_at", "infinity", "occurred_at must be a time such as"),
        ("occurred_at", "0001-01-01T00:00:00+14:00", "occurred_at must be within the years"),
        ("occurred_at", "9999-12-31T23:59:59-12:00", "occurred_at must be within the years"),
        ("occurred_at", "1999-12-31T23:59:59Z", "occurred_at must be within the years"),
        ("occurred_at", "2026-01-02T00:00:01Z", "occurred_at must not be more than a day ahead"),
        ("properties", "[1]", "properties must be an object"),
        ("properties", '"text"', "properties must be an object"),
        ("properties", '{"x": "\\u0000"}', "properties must not contain a NUL character"),
        ("properties", '{"x": "\\ud800"}', "properties must not contain a lone surrogate"),
        ("properties", '{"x": "' + "y" * 2_000_000 + '"}', "properties must be an object of less"),
    ],
)
def test_what_is_refused_has_a_reason(field: str, value: Any, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        validated(**{field: value})
    assert str(refused.value).startswith(reason)


def test_a_time_without_an_offset_is_of_the_zone_that_is_named() -> None:
    stored = validated(ZoneInfo("Asia/Kathmandu"), occurred_at="2025-01-31T09:00:00")
    assert stored.occurred_at == "2025-01-31T03:15:00+00:00"


@given(st.lists(st.sampled_from(["\\u0000", "\\ud83d", "\\uDE00", "\\u00e9", "\\\\", '\\"', "u"])))
def test_escapes_are_refused_that_stand_for_no_text(parts: list[str]) -> None:
    properties = '{"x": "' + "".join(parts) + '"}'
    text = json.loads(properties)["x"]
    is_stored = "\x00" not in text and not any("\ud800" <= each <= "\udfff" for each in text)
    try:
        assert validated(properties=properties).properties == properties
        assert is_stored
    except Invalid:
        assert not is_stored
