"""Blocks of events that are valid at first sight, and those that need a closer look."""

from datetime import UTC, datetime

import pytest

from services.ingest.fast_validation import validate_block

ID = "00000000-0000-4000-8000-000000000001"
LATEST = datetime(2025, 6, 1, tzinfo=UTC)


def validated(**other: str) -> list[str] | None:
    fields = {
        "event_id": ID,
        "user_id": "u",
        "event_name": "view",
        "occurred_at": "2025-01-31T09:00:00Z",
        "properties": "{}",
    } | other
    return validate_block([[value] for value in fields.values()], LATEST)


def test_a_usual_event_is_a_line_of_copy() -> None:
    assert validated() == [f"{ID}\tu\tview\t2025-01-31T09:00:00Z\t{{}}"]


def test_tabs_and_backslashes_are_escaped() -> None:
    assert validated(user_id="a\tb\\c") == [f"{ID}\ta\\tb\\\\c\tview\t2025-01-31T09:00:00Z\t{{}}"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", ID.replace("-", "")),
        ("event_id", f"{ID}\n{ID}"),
        ("user_id", "u" * 51),
        ("user_id", "a\0b"),
        ("event_name", ""),
        ("occurred_at", "2025-02-29T09:00:00Z"),
        ("occurred_at", "2025-01-31T09:00:00"),
        ("occurred_at", "2025-06-01 00:00:00Z"),
        ("occurred_at", "2000-01-01T09:00:00Z"),
        ("properties", "[]"),
        ("occurred_at", "2025-05-31T23:59:59+01:00"),
        ("properties", '{"a":"\\u0000"}'),
        ("properties", '{"a":"\\ud800"}'),
        ("properties", '{"\\u003a":1}'),
        ("properties", '{"a":1,"a":2}'),
        ("properties", '{"a":NaN}'),
    ],
)
def test_other_events_need_a_closer_look(field: str, value: str) -> None:
    assert validated(**{field: value}) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("occurred_at", "2025-05-31T23:59:59Z"),
        ("occurred_at", "2025-05-31 23:59:59.9+00:00"),
        ("occurred_at", "2025-05-31T07:59:59+01:00"),
        ("properties", '{"a":"\\u0041\\ud83d\\ude00"}'),
    ],
)
def test_these_events_need_no_closer_look(field: str, value: str) -> None:
    assert validated(**{field: value}) is not None


def test_the_text_of_the_events_must_be_strict_if_there_is_one() -> None:
    columns = [[ID], ["u"], ["view"], ["2025-01-31T09:00:00Z"], ["{}"]]
    rows = [f"{ID}\tu\tview\t2025-01-31T09:00:00Z\t{{}}"]
    assert validate_block(columns, LATEST, b'{"user_id":"u","event_name":"view"}') == rows
    assert validate_block(columns, LATEST, b'{"user_id":"v","user_id":"u"}') is None
    assert validate_block(columns, LATEST, b'{"user_id":"u"}\n{}') is None


def test_one_unusual_event_is_enough_for_a_closer_look() -> None:
    columns = [[ID] * 2, ["u", "v" * 51], ["view"] * 2, ["2025-01-31T09:00:00Z"] * 2, ["{}"] * 2]
    assert validate_block(columns, LATEST) is None
