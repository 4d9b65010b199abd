"""Ranges told in words: the last so many units, and the range before."""

from datetime import UTC, date, datetime

import pytest

from utils.time.calendar import Range
from utils.time.ranges import (
    RelativeRange,
    days_ago,
    last_range,
    parse_age,
    parse_last,
    previous_range,
)
from utils.time.zones import zone

BERLIN = zone("Europe/Berlin")
NOW = datetime(2025, 3, 30, 12, tzinfo=UTC)  # a Sunday, the clocks were put forward this night


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("24h", RelativeRange(24, "hour")),
        ("30d", RelativeRange(30, "day")),
        ("12w", RelativeRange(12, "week")),
        ("6mo", RelativeRange(6, "month")),
        ("2q", RelativeRange(2, "quarter")),
        ("1y", RelativeRange(1, "year")),
    ],
)
def test_what_can_be_said(text: str, last: RelativeRange) -> None:
    assert parse_last(text) == last


@pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "1.5d", "10000d", "5m", "5yr", "٣d", "1d "])
def test_what_cannot_be_said(text: str) -> None:
    with pytest.raises(ValueError, match="such as 24h"):
        parse_last(text)


@pytest.mark.parametrize(
    ("age", "day"),
    [
        ("13months", "2025-02-28"),
        ("13mo", "2025-02-28"),
        ("1month", "2026-02-28"),
        ("2y", "2024-03-31"),
        ("90days", "2025-12-31"),
        ("1d", "2026-03-30"),
        ("2weeks", "2026-03-17"),
    ],
)
def test_how_long_ago(age: str, day: str) -> None:
    assert days_ago(parse_age(age), date(2026, 3, 31)) == date.fromisoformat(day)


@pytest.mark.parametrize("text", ["", "13", "months", "0d", "24h", "5m", "1.5y", "90 days", "1D"])
def test_ages_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90d, 13months"):
        parse_age(text)


@pytest.mark.parametrize(
    ("last", "start", "end"),
    [
        ("2h", "2025-03-30T10:00", "2025-03-30T12:00"),
        ("1d", "2025-03-29T23:00", "2025-03-30T22:00"),
        ("2d", "2025-03-28T23:00", "2025-03-30T22:00"),
        ("1w", "2025-03-23T23:00", "2025-03-30T22:00"),
        ("2mo", "2025-01-31T23:00", "2025-03-31T22:00"),
    ],
)
def test_the_present_unit_is_included(last: str, start: str, end: str) -> None:
    assert last_range(parse_last(last), NOW, BERLIN, "monday") == (utc(start), utc(end))


@pytest.mark.parametrize(
    ("asked", "now", "previous"),
    [
        # whole units are shifted by units
        (("2025-01-01", "2026-01-01"), "2027-01-01", ("2024-01-01", "2025-01-01")),
        (("2025-01-01", "2025-07-01"), "2027-01-01", ("2024-07-01", "2025-01-01")),
        (("2025-03-01", "2025-04-01"), "2027-01-01", ("2025-02-01", "2025-03-01")),
        (("2025-03-03", "2025-03-17"), "2027-01-01", ("2025-02-17", "2025-03-03")),
        (("2025-03-04", "2025-03-09"), "2027-01-01", ("2025-02-27", "2025-03-04")),
        # as much as is over
        (("2025-03-01", "2025-04-01"), "2025-03-10T06:00", ("2025-02-01", "2025-02-10T06:00")),
        (("2025-01-01", "2026-01-01"), "2025-03-01T06:00", ("2024-01-01", "2024-03-01T06:00")),
        # a day that the month before has not: that month is over
        (("2025-03-01", "2025-04-01"), "2025-03-30T06:00", ("2025-02-01", "2025-03-01")),
        # nothing is over yet
        (("2025-03-01", "2025-04-01"), "2025-02-01", ("2025-02-01", "2025-02-01")),
        # what is made of no units is shifted by its length
        (
            ("2025-03-10T10:00", "2025-03-10T12:00"),
            "2025-03-10T11:00",
            ("2025-03-10T08:00", "2025-03-10T09:00"),
        ),
    ],
)
def test_the_range_before(asked: tuple[str, str], now: str, previous: tuple[str, str]) -> None:
    result = previous_range(Range(*map(utc, asked)), utc(now), zone("UTC"), "monday")
    assert result == tuple(map(utc, previous))


def test_the_day_before_keeps_the_time_of_the_clock() -> None:
    time_range = Range(utc("2025-03-29T23:00"), utc("2025-03-30T22:00"))
    result = previous_range(time_range, NOW, BERLIN, "monday")
    assert result == (utc("2025-03-28T23:00"), utc("2025-03-29T13:00"))  # 14:00 in Berlin both
