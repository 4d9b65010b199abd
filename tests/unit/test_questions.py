"""Questions: one object is the check, the key and the parameters."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from common.errors import InvalidParameter
from common.questions.active_users import ActiveUsers
from common.questions.base import Ranged
from common.questions.event_counts import EventCounts
from common.questions.lifecycle import Lifecycle
from common.questions.retention import Retention
from common.questions.top_events import TopEvents
from common.questions.user_events import UserEvents

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
    params = {"start": "2025-01-01", "end": "2025-02-01"}
    assert EventCounts(**params).fingerprint() != EventCounts(**params, **other).fingerprint()


def test_questions_of_another_kind_have_other_keys() -> None:
    assert EventCounts().fingerprint() != ActiveUsers().fingerprint()


def test_dates_are_of_the_zone_and_instants_are_not() -> None:
    berlin = EventCounts(start="2025-01-01", end="2025-02-01T00:00:00Z", tz="Europe/Berlin")
    assert berlin.query.range_at(NOW) == (
        datetime(2024, 12, 31, 23, tzinfo=UTC),
        datetime(2025, 2, 1, tzinfo=UTC),
    )


def test_without_a_range_it_is_the_last_30_days() -> None:
    assert EventCounts().query.range_at(NOW) == EventCounts(last="30d").query.range_at(NOW)


def test_without_an_end_it_is_the_end_of_today() -> None:
    assert EventCounts(start="2025-03-01").query.range_at(NOW).end == datetime(
        2025, 3, 11, tzinfo=UTC
    )


def test_questions_do_not_change() -> None:
    with pytest.raises(ValidationError):
        EventCounts().tz = "Asia/Tokyo"  # type: ignore[misc]


TODAY = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("question", "last_day"),
    [
        # 9,998 hours are 416 days and 14 hours; today is the first of them.
        (EventCounts(start=TODAY.date(), interval="hour"), 415),
        (ActiveUsers(start=TODAY.date()), 9_997),
    ],
)
def test_buckets_are_counted_at_the_moment_of_the_answer(question: Ranged, last_day: int) -> None:
    """Without an end there are more of them each day."""
    question.query.range_at(TODAY + last_day * DAY)
    with pytest.raises(InvalidParameter) as error_info:
        question.query.range_at(TODAY + (last_day + 1) * DAY)
    assert [fault.parameter for fault in error_info.value.faults] == ["interval"]


@pytest.mark.parametrize(
    "question", [TopEvents(last="300mo"), UserEvents(user_id="u", last="300mo")]
)
def test_a_clock_that_is_far_behind_is_no_fault_of_the_program(question: Ranged) -> None:
    with pytest.raises(InvalidParameter) as error_info:
        question.query.range_at(datetime(2010, 1, 1, tzinfo=UTC))
    assert [fault.parameter for fault in error_info.value.faults] == ["last"]


def test_too_many_buckets_are_refused_without_a_database() -> None:
    decade = {"start": "2000-01-01", "end": "2010-01-01"}
    EventCounts(**decade, interval="day")
    with pytest.raises(ValidationError):
        EventCounts(**decade, interval="hour")


JANUARY = {"start": "2025-01-01", "end": "2025-02-01"}


@pytest.mark.parametrize(
    ("parameters", "definition"),
    [
        (
            {},
            "The number of events from 2025-01-01T00:00:00Z up to but excluding "
            "2025-02-01T00:00:00Z, and of the distinct users who caused them.",
        ),
        (
            {"event": ("b", "a"), "tz": "Asia/Tokyo", "interval": "day", "compare": "previous"},
            'The number of events named "a" or "b" from 2025-01-01T00:00:00+09:00 up to but '
            "excluding 2025-02-01T00:00:00+09:00, and of the distinct users who caused them, in "
            "total and for each day of Asia/Tokyo, and for the previous range.",
        ),
        (
            {"event": tuple("abcdef")},
            "The number of events named as one of 6 names from 2025-01-01T00:00:00Z up to but "
            "excluding 2025-02-01T00:00:00Z, and of the distinct users who caused them.",
        ),
    ],
)
def test_a_definition_is_a_sentence_with_the_parameters(
    parameters: dict[str, str], definition: str
) -> None:
    query = EventCounts(**JANUARY, **parameters).query
    assert query.definition(query.range_at(NOW)) == definition


def test_a_first_event_depends_on_all_months_before() -> None:
    march = {"start": "2025-03-01", "end": "2025-04-01"}
    first, march_number = (1999 * 12 + 11, 2025 * 12 + 2)
    assert (Lifecycle(**march).query.months or (0, 0))[0] == first
    assert (ActiveUsers(**march).query.months or (0, 0))[0] == first
    assert (Retention(**march).query.months or (0, 0))[0] == first
    in_range = Retention(**march, entry="first_in_range")
    assert (in_range.query.months or (0, 0))[0] == march_number


def test_cells_are_read_beyond_the_range() -> None:
    march = {"start": "2025-03-01", "end": "2025-04-01", "interval": "month", "periods": 6}
    _, last = Retention(**march).query.months or (0, 0)
    assert last >= 2025 * 12 + 8  # the last cell of the cohort of March is August
    over, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2025, 8, 31, tzinfo=UTC)
    assert [Retention(**march).query.is_over(now) for now in (later, over)] == [False, True]


def test_cells_that_later_events_may_change_depend_on_no_months_alone() -> None:
    march = {"start": "2025-03-01", "end": "2025-04-01"}
    assert Retention(**march, count="on_or_after").query.months is None
