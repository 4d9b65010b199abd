"""Blocks of events that are valid at first sight, and those that need a closer look."""

import pytest

from services.ingest.fast_validation import validate_block

ID = "00000000-0000-4000-8000-000000000001"
UNTIL = "2025-06-01T00:00:00"


def validated(**other: str) -> list[str] | None:
    fields = {
        "event_id": ID,
        "user_id": "u",
        "event_name": "view",
        "occurred_at": "2025-01-31T09:00:00Z",
        "properties": "{}",
    } | other
    return validate_block([[value] for value in fields.values()], UNTIL)


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
        ("properties", '{"a":"\\u0041"}'),
        ("properties", '{"a":NaN}'),
    ],
)
def test_other_events_need_a_closer_look(field: str, value: str) -> None:
    assert validated(**{field: value}) is None


def test_one_unusual_event_is_enough_for_a_closer_look() -> None:
    columns = [[ID] * 2, ["u", "v" * 51], ["view"] * 2, ["2025-01-31T09:00:00Z"] * 2, ["{}"] * 2]
    assert validate_block(columns, UNTIL) is None
