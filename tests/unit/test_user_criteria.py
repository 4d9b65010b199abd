"""The ranges of conditions on users, and the sentence that says which users count."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.errors import InvalidParameter
from common.questions.event_counts import EventCounts
from common.selections import parse_user_conditions
from common.user_criteria import UserFilter
from utils.time.calendar import Range
from utils.time.zones import zone

EARLIEST = "1999-12-31T00:00:00+00:00"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


JUNE = Range(at("2025-06-01"), at("2025-07-01"))


def own_range(text: str, *, now: str = "2025-12-01", tz: str = "UTC") -> tuple[str, str]:
    users = UserFilter(did=parse_user_conditions([text]), zone=zone(tz), week_start="monday")
    (criterion,) = users.criteria(JUNE, at(now))
    return criterion.range.start.isoformat(), criterion.range.end.isoformat()


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("buy", "2025-06-01T00:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        ("buy @last:1d", "2025-06-30T00:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        ("buy @last:30d", "2025-06-01T00:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        ("buy @last:1w", "2025-06-30T00:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        ("buy @last:2mo", "2025-05-01T00:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        ("buy @last:36h", "2025-06-29T12:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        ("buy @end:2025-02-01", EARLIEST, "2025-02-01T00:00:00+00:00"),
        ("buy @start:2025-02-01", "2025-02-01T00:00:00+00:00", "2025-07-01T00:00:00+00:00"),
        (
            "buy @start:2025-02-01T12:00:00Z @end:2025-08-01",
            "2025-02-01T12:00:00+00:00",
            "2025-08-01T00:00:00+00:00",
        ),
    ],
)
def test_ranges_of_conditions(text: str, start: str, end: str) -> None:
    assert own_range(text) == (start, end)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("buy @last:1d", "2025-06-10T00:00:00+00:00"),
        ("buy @last:2d", "2025-06-09T00:00:00+00:00"),
        ("buy @last:1w", "2025-06-09T00:00:00+00:00"),
        ("buy @last:1mo", "2025-06-01T00:00:00+00:00"),
        ("buy @last:24h", "2025-06-09T15:00:00+00:00"),
    ],
)
def test_a_length_counts_back_from_now_if_the_range_goes_on(text: str, start: str) -> None:
    now = "2025-06-10T15:00:00"
    assert own_range(text, now=now) == (start, f"{now}+00:00")
    assert own_range("buy", now=now)[1] == "2025-07-01T00:00:00+00:00"


def test_days_are_local() -> None:
    # 30 March 2025 has 23 hours in Berlin.
    users = UserFilter(
        did=parse_user_conditions(["buy @last:2d"]),
        not_did=parse_user_conditions(["buy @start:2025-03-30 @end:2025-03-31"]),
        zone=zone("Europe/Berlin"),
        week_start="monday",
    )
    time_range = Range(at("2025-03-01"), at("2025-03-30T22:00:00"))
    did, not_did = users.criteria(time_range, at("2025-12-01"))
    assert did.range == Range(at("2025-03-28T23:00:00"), at("2025-03-30T22:00:00"))
    assert not_did.range == Range(at("2025-03-29T23:00:00"), at("2025-03-30T22:00:00"))
    assert (did.parameter, not_did.parameter) == ("did", "not_did")


def test_a_day_that_the_zone_skipped_is_empty() -> None:
    start, end = own_range("buy @start:2011-12-30 @end:2011-12-31", tz="Pacific/Apia")
    assert start == end == "2011-12-30T10:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("buy @start:2025-02-01 @end:2025-02-01", "@start must be before @end, by default"),
        ("buy @start:2025-02-02 @end:2025-02-01T00:00:00Z", "@start must be before @end"),
        ("buy @start:2025-07-02", "by default the end of the range"),
        ("buy @last:9999mo", "@last must be within the years 2000 to 2099"),
        ("buy @last:9000d", None),
        ("buy @last:1300w", None),
        ("buy @last:1400w", "@last must be within the years 2000 to 2099"),
    ],
)
def test_ranges_that_are_refused(text: str, message: str | None) -> None:
    try:
        own_range(text)
    except InvalidParameter as error:
        (fault,) = error.faults
        assert message
        assert message in fault.message
        assert fault.parameter == "did"
    else:
        assert message is None


def query(**parameters: Any) -> Any:
    return EventCounts(start="2025-06-01", end="2025-07-01", **parameters).query


def test_the_sentence_says_which_users_count() -> None:
    asked = query(
        did=["buy plan:pro @times:3..", "* @times:1 @end:2025-02-01"],
        not_did=["a,b @last:1d", "c @times:2..5"],
    )
    assert asked.definition_of_users(JUNE, at("2025-12-01")) == (
        " Only events of users count who have exactly 1 event before 2025-02-01T00:00:00Z"
        " and who have at least 3 events that match @event:buy plan:pro"
        " from 2025-06-01T00:00:00Z up to but excluding 2025-07-01T00:00:00Z"
        " and who do not have at least 1 event that matches @event:a,b"
        " from 2025-06-30T00:00:00Z up to but excluding 2025-07-01T00:00:00Z"
        " and who do not have 2 to 5 events that match @event:c"
        " from 2025-06-01T00:00:00Z up to but excluding 2025-07-01T00:00:00Z."
    )
    assert query().definition_of_users(JUNE, at("2025-12-01")) == ""


def test_the_months_of_an_answer_are_also_those_of_its_users() -> None:
    def months(**parameters: Any) -> tuple[int, int]:
        first, last = query(**parameters).months
        return first - june[0], last - june[0]

    june = query().months
    assert months() == (0, 1)
    assert months(did=["buy"]) == (0, 1)
    assert months(did=["buy @last:3mo"]) == (-2, 1)
    assert months(not_did=["buy @start:2025-02-01 @end:2025-03-01"]) == (-4, 1)
    assert months(did=["buy @start:2025-02-01 @end:2026-03-01"]) == (-4, 9)
    assert query(did=["buy"], explain=True).months is None


def test_an_answer_is_over_when_the_ranges_of_its_users_are() -> None:
    end = at("2025-07-01")
    quarter = timedelta(minutes=15)
    assert query().is_over(end + quarter)
    assert not query().is_over(end + quarter - timedelta.resolution)
    asked = query(did=["buy @start:2025-06-01 @end:2025-07-02"])
    assert not asked.is_over(end + quarter)
    assert asked.is_over(at("2025-07-02") + quarter)


def test_equal_conditions_share_a_cached_answer() -> None:
    def fingerprint(**parameters: Any) -> str:
        return EventCounts(start="2025-06-01", end="2025-07-01", **parameters).fingerprint()

    assert fingerprint(did=["a", "b x:1,2"]) == fingerprint(did=['"b" x:2,1 @times:1..', "a"])
    assert fingerprint(did=["a"]) != fingerprint(not_did=["a"])
    assert fingerprint(did=["a"]) != fingerprint(did=["a @times:2.."])
    assert EventCounts(did=["a"]).cache_name == EventCounts(not_did=["a"]).cache_name
    assert EventCounts(did=["a"]).cache_name == "event_counts:filtered"
