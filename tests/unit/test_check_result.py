"""Checks of the status, and how they write numbers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.status.check_result import CheckResult, day, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (172_799, "48 h"),
        (172_800, "2 days"),
    ],
)
def test_durations_have_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 kB"),
        (999_499, "999 kB"),
        (10**6, "1.0 MB"),
        (10**9, "1.0 GB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_sizes_are_decimal(number: int, text: str) -> None:
    assert size(number) == text


def test_days_are_those_of_utc() -> None:
    assert day(datetime(2026, 1, 31, 23, 30, tzinfo=UTC)) == "2026-01-31"
    assert day(datetime(2026, 2, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-31"


def test_labels_name_the_subject() -> None:
    assert (
        CheckResult("adopted_table", "ok", "", subject="app.visits").label
        == "adopted table app.visits"
    )
    assert CheckResult("daily_statistics", "ok", "").label == "daily statistics"
