"""How times of files are read, and what is guessed of them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.ingest.mapping.times import (
    ISO,
    are_all_local,
    epoch_reading,
    format_reading,
    guess_reading,
    suggested_formats,
)
from services.ingest.validation import Invalid, parse_time

TIMES = [
    ("2025-01-10T09:06:40Z", "2025-01-10T09:06:40+00:00"),
    ("2025-01-10 09:06:40 UTC", "2025-01-10T09:06:40+00:00"),
    ("2025-01-10 09:06:40.123456 UTC", "2025-01-10T09:06:40.123456+00:00"),
    ("2025-01-10T09:06Z", "2025-01-10T09:06:00+00:00"),
    ("2025-01-10 09:06:40 +0100", "2025-01-10T09:06:40+01:00"),
    ("2025-01-10 09:06:40 +0000 UTC", "2025-01-10T09:06:40+00:00"),
    ("2025-01-10T09:06:40,123Z", "2025-01-10T09:06:40.123000+00:00"),
    ("2025-01-10T09:06:40+01:00[Europe/Berlin]", "2025-01-10T09:06:40+01:00"),
    ("20250110T090640Z", "2025-01-10T09:06:40+00:00"),
    ("10/Jan/2025:09:06:40 +0100", "2025-01-10T09:06:40+01:00"),
    ("2025-01-10", "2025-01-10T00:00:00"),
    ("2025-01-10T09:06:40.000", "2025-01-10T09:06:40"),
    ("\xa02025-01-10T09:06:40Z ", "2025-01-10T09:06:40+00:00"),
]


@pytest.mark.parametrize(("text", "iso"), TIMES)
def test_iso_times_are_read_as_people_write_them(text: str, iso: str) -> None:
    assert parse_time(text).isoformat() == iso


@pytest.mark.parametrize(
    "text",
    [
        "45667.5",
        "1736500000",
        "2016-12-31T23:59:60Z",
        "10.01.2025",
        "2025-0110",
        "2025-13-01",
        "10/Xyz/2025:09:06:40 +0000",
        "now",
    ],
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(Invalid, match="occurred_at must be a time such as"):
        parse_time(text)


@pytest.mark.parametrize(
    ("values", "description"),
    [
        (["1736500000", "1736500001.5"], "seconds since 1970"),
        ([1736500000123], "milliseconds since 1970"),
        (["1736500000123456"], "microseconds since 1970"),
        (["1736500000", 1736500000123], "numbers since 1970, in s or ms by their size"),
        (["2025-01-10T00:00:00Z", "1736500000"], ""),
        ([], ""),
    ],
)
def test_a_reading_is_guessed_that_fits_all_rows(values: list[Any], description: str) -> None:
    reading = guess_reading(values)
    assert reading is not None
    assert reading.description == description


@pytest.mark.parametrize("values", [["1/10/2025 9:06:40 AM"], ["45667.5"], [7]])
def test_nothing_is_guessed_of_other_values(values: list[Any]) -> None:
    assert guess_reading(values) is None


def test_formats_are_suggested_that_fit_all_rows() -> None:
    assert suggested_formats(["10.01.2025 09:06"]) == ["%d.%m.%Y %H:%M"]
    assert suggested_formats(["1/10/2025 9:06:40 AM"]) == [
        "%m/%d/%Y %I:%M:%S %p",
        "%d/%m/%Y %I:%M:%S %p",
    ]
    assert suggested_formats(["01/10/2025", "31/12/2025"]) == ["%d/%m/%Y"]
    assert suggested_formats(["soon"]) == []


def test_readings_return_times_or_say_what_they_expect() -> None:
    assert epoch_reading("ms").read("1736500000123") == datetime(
        2025, 1, 10, 9, 6, 40, 123_000, tzinfo=UTC
    )
    with pytest.raises(Invalid, match="occurred_at must be a number of milliseconds since 1970"):
        epoch_reading("ms").read("2025-01-10")
    with pytest.raises(Invalid, match="within the years 2000 to 2099"):
        epoch_reading("ms").read(1736500000)
    sized = guess_reading([1736500000, 1736500000123])
    assert sized is not None
    assert sized.read("1736500000123") == epoch_reading("ms").read(1736500000123)
    with pytest.raises(Invalid, match="within the years 2000 to 2099"):
        sized.read(7)
    assert format_reading("%d.%m.%Y").read("10.01.2025") == datetime(2025, 1, 10)
    with pytest.raises(Invalid, match=r"occurred_at must have the format %d\.%m\.%Y"):
        format_reading("%d.%m.%Y").read("2025-01-10")


def test_local_times_are_those_without_an_offset() -> None:
    assert are_all_local(ISO, ["2025-01-10", "2025-01-10 09:00"])
    assert not are_all_local(ISO, ["2025-01-10", "2025-01-10T09:00:00Z"])
    assert not are_all_local(ISO, ["no time"])


def test_a_number_of_many_digits_is_no_time() -> None:
    digits = "1" * 5_000  # Python makes no integer of as many
    assert guess_reading([digits]) is None
    with pytest.raises(Invalid, match="must be a number of seconds"):
        epoch_reading("s").read(digits)
