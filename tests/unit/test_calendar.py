"""Where hours, days, weeks, months, quarters and years begin."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.time.calendar import (
    MAX_BUCKETS,
    Interval,
    Range,
    Weekday,
    buckets,
    day_start,
    days_of,
    first_day,
    local_day,
    next_first_day,
    too_many_buckets,
    whole_units,
)
from utils.time.zones import zone, zone_names

INTERVALS: tuple[Interval, ...] = get_args(Interval)
ODD_ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Santiago",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/St_Johns",
    "America/Havana",
    "Africa/Casablanca",
    "Antarctica/Troll",
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "tz", "starts"),
    [
        ("2025-10-26", "Europe/Berlin", "2025-10-25T22:00"),
        ("2025-10-27", "Europe/Berlin", "2025-10-26T23:00"),
        ("2026-09-06", "America/Santiago", "2026-09-06T04:00"),  # begins at 01:00
        ("2025-07-01", "Asia/Kathmandu", "2025-06-30T18:15"),
        ("2011-12-29", "Pacific/Apia", "2011-12-29T10:00"),
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00"),  # left out
        ("2011-12-31", "Pacific/Apia", "2011-12-30T10:00"),
        ("2006-10-29", "America/St_Johns", "2006-10-29T03:30"),  # midnight came twice: the second
        ("2025-11-02", "America/Havana", "2025-11-02T04:00"),  # 0:00 to 1:00 came twice: the first
    ],
)
def test_a_day_begins(day: str, tz: str, starts: str) -> None:
    assert day_start(date.fromisoformat(day), zone(tz)) == utc(starts)


def lengths(start: str, end: str, tz: str, interval: Interval) -> list[float]:
    cut = buckets(Range(utc(start), utc(end)), interval, zone(tz))
    return [(bucket.end - bucket.start) / timedelta(hours=1) for bucket in cut]


def test_days_have_the_hours_they_have() -> None:
    assert lengths("2025-10-24T22:00", "2025-10-27T23:00", "Europe/Berlin", "day") == [24, 25, 24]
    assert lengths("2025-03-28T23:00", "2025-03-31T22:00", "Europe/Berlin", "day") == [24, 23, 24]
    assert lengths("2011-12-29T10:00", "2011-12-31T10:00", "Pacific/Apia", "day") == [24, 0, 24]


def test_hours_do_not_overlap_where_half_an_hour_comes_twice() -> None:
    arguments = ("2026-04-04T13:00", "2026-04-04T16:30", "Australia/Lord_Howe")
    assert lengths(*arguments, "hour") == [1, 1, 0.5, 1]


def test_hours_begin_on_the_clock_of_the_zone() -> None:
    assert lengths("2025-07-01T00:00", "2025-07-01T02:00", "Asia/Kathmandu", "hour") == [
        0.25,
        1,
        0.75,
    ]


def test_the_ends_of_a_range_cut_its_buckets() -> None:
    time_range = Range(utc("2025-01-15T12:00"), utc("2025-03-02T00:00"))
    cut = buckets(time_range, "month", zone("UTC"))
    assert [bucket.start for bucket in cut] == [
        utc("2025-01-15T12:00"),
        utc("2025-02-01T00:00"),
        utc("2025-03-01T00:00"),
    ]
    assert cut[-1].end == utc("2025-03-02T00:00")


@pytest.mark.parametrize(
    ("interval", "week_start", "expected"),
    [
        ("day", "monday", "2025-08-14"),
        ("week", "monday", "2025-08-11"),
        ("week", "sunday", "2025-08-10"),
        ("week", "thursday", "2025-08-14"),
        ("week", "friday", "2025-08-08"),
        ("month", "monday", "2025-08-01"),
        ("quarter", "monday", "2025-07-01"),
        ("year", "monday", "2025-01-01"),
    ],
)
def test_first_days(interval: Interval, week_start: Weekday, expected: str) -> None:
    assert first_day(date(2025, 8, 14), interval, week_start) == date.fromisoformat(expected)


def test_units_follow_each_other() -> None:
    assert next_first_day(date(2024, 2, 28), "day") == date(2024, 2, 29)
    assert next_first_day(date(2024, 12, 30), "week") == date(2025, 1, 6)
    assert next_first_day(date(2024, 12, 1), "month") == date(2025, 1, 1)
    assert next_first_day(date(2024, 10, 1), "quarter") == date(2025, 1, 1)
    assert next_first_day(date(2024, 1, 1), "year") == date(2025, 1, 1)


zones = st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(zone_names()))
moments = st.datetimes(datetime(2000, 1, 2), datetime(2090, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
intervals = st.sampled_from(INTERVALS)


@given(moments, zones)
def test_every_moment_is_within_its_day(moment: datetime, tz: str) -> None:
    day = local_day(moment, zone(tz))
    tomorrow = day + timedelta(days=1)
    assert day_start(day, zone(tz)) <= moment < day_start(tomorrow, zone(tz))


@given(moments, st.timedeltas(timedelta.resolution, timedelta(days=20)), zones, intervals)
def test_buckets_cover_the_range_without_gap_or_overlap(
    start: datetime, length: timedelta, tz: str, interval: Interval
) -> None:
    time_range = Range(start, start + length)
    cut = buckets(time_range, interval, zone(tz))
    assert (cut[0].start, cut[-1].end) == time_range
    assert all(before.end == right.start for before, right in pairwise(cut))
    assert all(bucket.start <= bucket.end for bucket in cut)


@given(moments, st.timedeltas(timedelta.resolution, timedelta(days=20)), zones)
def test_an_hour_shows_one_hour_of_the_clock(start: datetime, length: timedelta, tz: str) -> None:
    for bucket in buckets(Range(start, start + length), "hour", zone(tz)):
        first, last = (
            instant.astimezone(zone(tz))
            for instant in (bucket.start, bucket.end - timedelta.resolution)
        )
        assert (first.date(), first.hour, first.utcoffset()) == (
            last.date(),
            last.hour,
            last.utcoffset(),
        )


@given(moments, st.timedeltas(timedelta.resolution, timedelta(days=20)), zones)
def test_days_of_a_range_are_those_it_touches(start: datetime, length: timedelta, tz: str) -> None:
    days = days_of(Range(start, start + length), zone(tz))
    assert day_start(days[0], zone(tz)) <= start
    assert day_start(days[-1], zone(tz)) < start + length
    assert day_start(days[-1] + timedelta(days=1), zone(tz)) >= start + length


def test_a_day_that_was_left_out_is_empty_and_there() -> None:
    never = Range(utc("2011-12-30T10:00"), utc("2011-12-30T10:00"))
    assert days_of(never, zone("Pacific/Apia")) == [date(2011, 12, 30)]
    assert buckets(never, "day", zone("Pacific/Apia")) == [never]
    assert days_of(Range(utc("2025-01-01T00:00"), utc("2025-01-01T00:00")), zone("UTC")) == []


@pytest.mark.parametrize("interval", INTERVALS)
def test_never_more_buckets_than_the_limit(interval: Interval) -> None:
    start = utc("2000-01-01T00:00")
    longest = start
    for step in (timedelta(days=d) for d in (4096, 256, 16, 1)):
        while longest.year < 2099 and not too_many_buckets(Range(start, longest + step), interval):
            longest += step
    assert len(buckets(Range(start, longest), interval, zone("Australia/Lord_Howe"))) <= MAX_BUCKETS


def test_whole_units_are_not_cut_by_the_range() -> None:
    berlin = zone("Europe/Berlin")
    time_range = Range(datetime(2025, 3, 26, 12, tzinfo=UTC), datetime(2025, 3, 26, 13, tzinfo=UTC))
    edges = [datetime(2025, 3, 23, 23, tzinfo=UTC), datetime(2025, 3, 30, 22, tzinfo=UTC)]
    assert whole_units(time_range, "week", berlin) == [Range(*edges)]
    next_week = Range(edges[1], edges[1] + timedelta(days=7))
    assert whole_units(time_range, "week", berlin, more=1) == [Range(*edges), next_week]
    months = whole_units(Range(edges[0], edges[1] + timedelta(days=2)), "month", berlin)
    assert [start for start, _ in months] == [
        datetime(2025, 2, 28, 23, tzinfo=UTC),
        datetime(2025, 3, 31, 22, tzinfo=UTC),
    ]
    assert whole_units(Range(edges[0], edges[0]), "day", berlin, more=3) == []
