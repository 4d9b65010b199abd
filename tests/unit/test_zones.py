"""Time zones of the pinned `tzdata` package."""

from datetime import UTC, datetime, timedelta

import pytest

from utils.time.zones import offset, zone, zone_names


def test_iana_names_are_allowed() -> None:
    assert {"UTC", "Europe/Berlin", "Asia/Kathmandu"} <= zone_names()


@pytest.mark.parametrize("name", ["", "Berlin", "europe/berlin", "../zones", "/etc/localtime"])
def test_other_names_open_no_file(name: str) -> None:
    with pytest.raises(KeyError):
        zone(name)


@pytest.mark.parametrize(
    ("name", "month", "hours"),
    [("Europe/Berlin", 1, 1), ("Europe/Berlin", 7, 2), ("Asia/Kathmandu", 1, 5.75), ("UTC", 7, 0)],
)
def test_the_offset_depends_on_the_instant(name: str, month: int, hours: float) -> None:
    instant = datetime(2025, month, 1, tzinfo=UTC)
    assert offset(instant, zone(name)) == timedelta(hours=hours)
