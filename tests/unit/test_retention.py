"""Where events are kept from."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.lifecycle.retention import horizon_of
from utils.time.ranges import parse_age


@pytest.mark.parametrize(
    ("now", "horizon"),
    [
        (datetime(2026, 11, 25, 23, 59, tzinfo=UTC), datetime(2025, 10, 25, tzinfo=UTC)),
        (datetime(2026, 11, 25, tzinfo=UTC), datetime(2025, 10, 25, tzinfo=UTC)),
        (
            datetime(2026, 11, 25, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2025, 10, 24, tzinfo=UTC),
        ),
    ],
)
def test_it_is_where_a_day_of_utc_begins(now: datetime, horizon: datetime) -> None:
    assert horizon_of(parse_age("13months"), now) == horizon


@pytest.mark.parametrize("age", ["27y", "9999y", "9999d"])
def test_it_is_not_before_there_can_be_events(age: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        horizon_of(parse_age(age), datetime(2026, 11, 25, tzinfo=UTC))
