"""Durations are numbers with a unit."""

from datetime import timedelta

import pytest

from utils.time.durations import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "duration", "canonical"),
    [
        ("90s", timedelta(seconds=90), "90s"),
        ("120s", timedelta(minutes=2), "2m"),
        ("30m", timedelta(minutes=30), "30m"),
        ("24h", timedelta(days=1), "1d"),
        ("36h", timedelta(hours=36), "36h"),
        ("7d", timedelta(days=7), "7d"),
        ("2w", timedelta(days=14), "14d"),
    ],
)
def test_a_duration_has_one_text(text: str, duration: timedelta, canonical: str) -> None:
    assert parse_duration(text) == duration
    assert duration_text(duration) == canonical
    assert parse_duration(canonical) == duration


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7D", "1y", "1mo", "٣d"]
)
def test_other_texts_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number followed by s, m, h, d or w"):
        parse_duration(text)


def test_a_duration_that_is_too_long_is_none() -> None:
    with pytest.raises(ValueError, match="must be at most 999999999d"):
        parse_duration("499167766w")
