"""Slots of 15 minutes, and the hours, days and months that are made of them."""

from datetime import UTC, datetime, timedelta

import pytest

from utils.time.slots import Span, days_in, hours_in, month_number, months_in, slot_of, slot_start
from utils.time.zones import zone

MARCH = slot_of(datetime(2025, 3, 1, tzinfo=UTC))
DAY = 96


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:14:59.999999Z", 0),
        ("1970-01-01T00:15:00Z", 1),
        ("1969-12-31T23:59:59Z", -1),
        ("2000-01-01T01:00:00+01:00", 1_051_872),
    ],
)
def test_instants_are_in_their_slot(text: str, slot: int) -> None:
    instant = datetime.fromisoformat(text)
    assert slot_of(instant) == slot
    assert slot_start(slot) <= instant < slot_start(slot) + timedelta(minutes=15)


def test_hours_begin_with_the_hour() -> None:
    assert list(hours_in(Span(1, 13))) == [Span(4, 8), Span(8, 12)]


def test_local_days_are_shorter_or_longer_when_clocks_change() -> None:
    outer = Span(MARCH + 28 * DAY, MARCH + 31 * DAY)
    days = list(days_in(outer, zone("Europe/Berlin")))
    assert [slot_start(day.start) for day in days] == [
        datetime(2025, 3, 29, 23, tzinfo=UTC),
        datetime(2025, 3, 30, 22, tzinfo=UTC),
    ]
    assert [day.end - day.start for day in days] == [92, 96]


def test_only_whole_months_are_within_a_span() -> None:
    outer = Span(MARCH - 1, MARCH + 61 * DAY)
    assert list(months_in(outer)) == [
        Span(MARCH, MARCH + 31 * DAY),
        Span(MARCH + 31 * DAY, MARCH + 61 * DAY),
    ]
    assert list(months_in(Span(MARCH + 1, MARCH + 31 * DAY))) == []


def test_months_are_numbered_in_utc() -> None:
    assert month_number(datetime.fromisoformat("2025-01-01T00:30:00+01:00")) == 2024 * 12 + 11
