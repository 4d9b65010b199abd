"""The preview of a file."""

import io
from typing import Any, cast

import pytest

from commands._load_preview import preview
from services.ingest.input_file import InputFile, ReadOptions
from services.ingest.input_rows import UnreadableInput
from services.ingest.mapping.options import MappingOptions

CLICKS = """visitor;action;ts;price;plan
v1;buy;1736500000;9.90;pro
v2;view;1736500060;;
"""


def previewed(text: str, **options: Any) -> tuple[str, bool]:
    raw = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(text.encode())))
    return preview("clicks.csv", InputFile(raw, ReadOptions()), MappingOptions(**options))


def test_all_that_is_missing_is_shown_with_options() -> None:
    text, is_clean = previewed(CLICKS)
    assert not is_clean
    assert text.splitlines()[8:] == [
        "Missing:",
        "",
        "  there is no column event_name, but action looks like it",
        "  there is no column occurred_at, but ts looks like it",
        "  there is no column user_id, but visitor looks like it",
        "  not mapped: columns price, plan (store properties with --property SOURCE, leave "
        "others out with --ignore SOURCE; '*' is all others)",
        "",
        "Try: --map event_name=action --map occurred_at=ts --map user_id=visitor --property '*'",
        "",
        "First rows as events, with these options:",
        "",
        '  {"event_id": "6d6a022f-ce16-59e2-bddd-f07139f46b67", "user_id": "v1", "event_name": '
        '"buy", "occurred_at": "2025-01-10T09:06:40+00:00", "properties": {"price":9.90,"plan":'
        '"pro"}}',
        '  {"event_id": "c91c8a42-7b81-5887-9631-5a0ae72b7ce6", "user_id": "v2", "event_name": '
        '"view", "occurred_at": "2025-01-10T09:07:40+00:00", "properties": {}}',
    ]


def test_the_first_rows_are_shown_as_events() -> None:
    fields = {"user_id": ("visitor",), "event_name": ("action",), "occurred_at": ("ts",)}
    text, is_clean = previewed(CLICKS, fields=fields, properties={"price": None}, ignored=("plan",))
    assert is_clean
    assert text == (
        "clicks.csv: csv, columns separated by semicolons\n"
        "\n"
        "  event_id     derived from the whole row\n"
        "  user_id      visitor\n"
        "  event_name   action\n"
        "  occurred_at  ts (seconds since 1970)\n"
        "  properties   price (number)\n"
        "  ignored      plan\n"
        "\n"
        "First rows as events:\n"
        "\n"
        '  {"event_id": "6d6a022f-ce16-59e2-bddd-f07139f46b67", "user_id": "v1", "event_name": '
        '"buy", "occurred_at": "2025-01-10T09:06:40+00:00", "properties": {"price":9.90}}\n'
        '  {"event_id": "c91c8a42-7b81-5887-9631-5a0ae72b7ce6", "user_id": "v2", "event_name": '
        '"view", "occurred_at": "2025-01-10T09:07:40+00:00", "properties": {}}'
    )


def test_a_row_that_is_no_event_is_shown_with_the_reason() -> None:
    text, is_clean = previewed("event_name,occurred_at\na,2025-01-10T00:00:00Z\n,yesterday\n")
    assert "  row 3 is rejected: event_name is missing" in text
    assert is_clean


def test_an_export_of_a_product_is_recognized() -> None:
    text, _ = previewed('{"event": "a", "properties": {"distinct_id": "u", "time": 1736500000}}\n')
    assert "This looks like Mixpanel: --from mixpanel" in text


def test_sources_that_no_row_has_are_not_shown() -> None:
    row = '{"event_name": "a", "occurred_at": "2025-01-10T00:00:00Z", "device": "d"}\n'
    text, is_clean = previewed(row, fields={"user_id": ("login", "device")}, ignored=("*",))
    assert is_clean
    assert text.splitlines()[3:7] == [
        "  user_id      device",
        "  event_name   event_name",
        "  occurred_at  occurred_at",
        "  properties   none",
    ]


def test_numbers_under_a_name_of_times_are_suggested() -> None:
    text, _ = previewed("who\tclick_ts_ms\tat_ms\tts_ms\nv1\t7\t1741960000123\t1741960000123\n")
    assert "there is no column occurred_at, but ts_ms looks like it" in text
    text, _ = previewed("phone,size\n2015550123,7\n")
    assert "looks like it" not in text


def test_a_file_without_known_users_says_how_to_name_them() -> None:
    text, _ = previewed("Kunde,event_name,occurred_at\nK-1,buy,2025-01-10T09:06:40Z\n")
    hint = "there is no column user_id: map another with --map user_id=SOURCE, unless the events "
    assert f"  {hint}have no users\n" in text
    text, is_clean = previewed(
        "Kunde,event_name,occurred_at\nK-1,buy,2025-01-10T09:06:40Z\n", properties={"*": None}
    )
    assert is_clean
    assert hint not in text


def test_lines_above_the_header_are_told() -> None:
    lines = "Account report,,,\nGenerated,,,\n\nwho,action,Date,Time,Amount\na,b,c,d,e\nf,g,h,i,j\n"
    with pytest.raises(UnreadableInput, match="remove the lines above the names of the columns"):
        previewed(lines)
