"""Local times as instants: the first of a repeated hour, and a skipped hour moved forward."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.example_counts import examples
from utils.time.local_times import local_rules, read_local
from utils.time.zones import zone

ZONES = [
    "Europe/Berlin", "America/New_York", "America/Caracas", "Africa/Casablanca", "UTC",
    "Australia/Lord_Howe", "Pacific/Apia", "Asia/Pyongyang", "America/Nuuk", "Antarctica/Troll",
]  # fmt: skip
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))


@pytest.mark.parametrize(
    ("local", "name", "instant", "adjustment"),
    [
        ("2025-03-30T02:30", "Europe/Berlin", "2025-03-30T01:30", "skipped"),
        ("2025-10-26T02:30", "Europe/Berlin", "2025-10-26T00:30", "repeated"),
        ("2025-10-26T03:00", "Europe/Berlin", "2025-10-26T02:00", None),
        ("2025-04-06T01:45", "Australia/Lord_Howe", "2025-04-05T14:45", "repeated"),
        ("2011-12-30T12:00", "Pacific/Apia", "2011-12-30T22:00", "skipped"),  # a whole day
        ("2007-12-09T03:15", "America/Caracas", "2007-12-09T07:45", None),
        ("2007-12-09T02:45", "America/Caracas", "2007-12-09T06:45", "repeated"),
    ],
)
def test_one_rule(local: str, name: str, instant: str, adjustment: str | None) -> None:
    result, adjusted = read_local(datetime.fromisoformat(local), zone(name))
    assert result.astimezone(UTC).isoformat()[:16] == instant
    assert adjusted == adjustment


def by_rules(local: datetime, name: str) -> datetime:
    rules = local_rules(zone(name))
    offsets = (rules.first, *rules.offsets)
    return (local - offsets[bisect_right(rules.times, local)]).replace(tzinfo=UTC)


@pytest.mark.thorough
@settings(max_examples=examples(300))
@given(MOMENTS, st.sampled_from(ZONES))
def test_the_rules_say_the_same_as_the_zone(local: datetime, name: str) -> None:
    assert by_rules(local, name) == read_local(local, zone(name))[0].astimezone(UTC)


@pytest.mark.parametrize("name", ZONES)
def test_also_around_each_change(name: str) -> None:
    for time in local_rules(zone(name)).times:
        for minutes in (-121, -61, -60, -59, -31, -30, -1, 0, 1, 30, 61):
            local = time + timedelta(minutes=minutes)
            assert by_rules(local, name) == read_local(local, zone(name))[0].astimezone(UTC)
            local -= timedelta.resolution
            assert by_rules(local, name) == read_local(local, zone(name))[0].astimezone(UTC)
