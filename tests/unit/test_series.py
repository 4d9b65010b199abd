"""Buckets of series, and the names by which cells find them."""

from datetime import UTC, datetime

import pytest

from common.cells import Cell
from common.errors import InvalidParameter
from common.questions.event_counts import EventCounts
from repo.queries.series import CalendarBucket, begun_buckets, bucket_of
from utils.time.calendar import Range

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)


def series(interval: str, start: str, end: str, tz: str) -> list[CalendarBucket]:
    query = EventCounts(interval=interval, start=start, end=end, tz=tz).query
    time_range = query.period.fixed_range
    assert isinstance(time_range, Range)
    return begun_buckets(query, time_range, NOW)


def index_of(text: str, buckets: list[CalendarBucket]) -> int | None:
    return bucket_of(Cell(fields={"start": text}), "start", buckets)


def test_a_bucket_has_the_name_of_its_day_and_of_its_start() -> None:
    days = series("day", "2025-03-08", "2025-03-20", "Europe/Berlin")
    assert len(days) == 3
    assert bucket_of(Cell(), "start", days) is None
    for text in ("2025-03-09", "2025-03-09T00:00:00+01:00", "2025-03-08T23:00:00Z"):
        assert index_of(text, days) == 1
    hours = series("hour", "2025-03-09", "2025-03-10", "Europe/Berlin")
    assert index_of("2025-03-09T02:00:00+01:00", hours) == 2


@pytest.mark.parametrize(
    "text", ["2025-03-07", "2025-03-11", "2025-03-09T01:00:00Z", "2025-03-09T00:00:00Z"]
)
def test_no_other_bucket_has_a_name(text: str) -> None:
    days = series("day", "2025-03-08", "2025-03-20", "Europe/Berlin")
    with pytest.raises(InvalidParameter) as error:
        index_of(text, days)
    (fault,) = error.value.faults
    assert fault.parameter == "cell"
    assert fault.message == (
        "start must be that of a bucket of the answer that has begun: from "
        "2025-03-08T00:00:00+01:00 to 2025-03-10T00:00:00+01:00"
    )


def test_a_day_that_the_zone_skipped_has_only_its_own_name() -> None:
    days = series("day", "2011-12-29", "2012-01-01", "Pacific/Apia")
    assert [index_of(text, days) for text in ("2011-12-30", "2011-12-31")] == [1, 2]
    assert days[1].start == days[2].start
    assert index_of("2011-12-31T00:00:00+14:00", days) == 2


def test_the_first_day_of_events_has_a_name_west_of_utc() -> None:
    days = series("day", "2000-01-01T00:00:00Z", "2000-01-02T00:00:00Z", "America/Santiago")
    assert [index_of(text, days) for text in ("1999-12-31", "2000-01-01")] == [0, 1]


def test_an_hour_that_the_clocks_repeat_has_two_names() -> None:
    hours = series("hour", "2024-10-27", "2024-10-28", "Europe/Berlin")
    assert index_of("2024-10-27T02:00:00+02:00", hours) == 2
    assert index_of("2024-10-27T01:00:00Z", hours) == 3
    with pytest.raises(InvalidParameter):
        index_of("UNSET", hours)
