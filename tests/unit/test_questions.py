"""Questions: one object is the check, the key and the parameters."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from common.questions import ActiveUsers, EventCounts, TopEvents, UserEvents

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)


def test_a_question_is_named_by_its_class() -> None:
    assert [q.name for q in (EventCounts, TopEvents, ActiveUsers, UserEvents)] == [
        "event_counts",
        "top_events",
        "active_users",
        "user_events",
    ]


def test_equal_questions_have_one_key() -> None:
    one = EventCounts(start="2025-01-01", end="2025-02-01", event=("b", "a", "b"))
    same = EventCounts(start="2025-01-01", end="2025-02-01", event=("a", "b"), format="csv")
    assert one.fingerprint() == same.fingerprint()


@pytest.mark.parametrize(
    "other",
    [{"tz": "Asia/Tokyo"}, {"week_start": "sunday"}, {"event": ("a",)}, {"interval": "day"}],
)
def test_other_questions_have_other_keys(other: dict[str, str]) -> None:
    asked = {"start": "2025-01-01", "end": "2025-02-01"}
    assert EventCounts(**asked).fingerprint() != EventCounts(**asked, **other).fingerprint()


def test_questions_of_another_kind_have_other_keys() -> None:
    assert EventCounts().fingerprint() != ActiveUsers().fingerprint()


def test_dates_are_of_the_zone_and_instants_are_not() -> None:
    berlin = EventCounts(start="2025-01-01", end="2025-02-01T00:00:00Z", tz="Europe/Berlin")
    assert berlin.range(NOW) == (
        datetime(2024, 12, 31, 23, tzinfo=UTC),
        datetime(2025, 2, 1, tzinfo=UTC),
    )


def test_without_a_range_it_is_the_last_30_days() -> None:
    assert EventCounts().range(NOW) == EventCounts(last="30d").range(NOW)


def test_without_an_end_it_is_the_end_of_today() -> None:
    assert EventCounts(start="2025-03-01").range(NOW).end == datetime(2025, 3, 11, tzinfo=UTC)


def test_questions_do_not_change() -> None:
    with pytest.raises(ValidationError):
        EventCounts().tz = "Asia/Tokyo"  # type: ignore[misc]
