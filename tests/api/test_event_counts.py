"""event-counts: ranges, buckets, what is partial, and the range before."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from common.questions import base
from tests.api.questions import ask
from tests.events import insert
from tests.problems import assert_problem

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def data(service: httpx.Client, **parameters: object) -> Any:
    return ask(service, "event-counts", **parameters)["data"]


def test_events_without_a_user_count_only_as_events(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("", "view", NOON), ("u", "view", NOON), ("u", "buy", NOON))
    assert data(service, start="2025-03-10", end="2025-03-11") == {"events": 3, "users": 1}


def test_the_end_is_not_part_of_the_range(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u", "view", NOON))
    before = {"start": "2025-03-10T00:00:00Z", "end": "2025-03-10T12:00:00Z"}
    after = {"start": "2025-03-10T12:00:00Z", "end": "2025-03-10T13:00:00Z"}
    assert data(service, **before)["events"] == 0
    assert data(service, **after)["events"] == 1


def test_buckets_without_events_count_zero(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u", "view", NOON), ("v", "view", NOON + 2 * DAY), ("u", "view", NOON + 2 * DAY))
    series = data(service, start="2025-03-10", end="2025-03-13", interval="day")["series"]
    assert [(b["events"], b["users"]) for b in series] == [(1, 1), (0, 0), (2, 2)]
    assert {b["partial"] for b in series} == {False}


def test_a_bucket_that_the_range_cuts_is_marked(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u", "view", NOON))
    params = {"start": "2025-03-05", "end": "2025-03-17", "interval": "week"}
    series = data(service, **params)["series"]
    assert [(b["day"], b["cut"], b["events"]) for b in series] == [
        ("2025-03-05", True, 0),
        ("2025-03-10", False, 1),
    ]
    hours = {"start": "2025-03-10T11:30:00Z", "end": "2025-03-10T13:00:00Z", "interval": "hour"}
    series = data(service, **hours)["series"]
    assert [(b["cut"], b["events"]) for b in series] == [(True, 0), (False, 1)]
    assert "day" not in series[0]


def test_complete_narrows_the_range_to_whole_periods_that_are_over(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("u", "view", NOON), ("v", "view", NOON - 5 * DAY))
    params = {"start": "2025-03-05", "end": "2025-03-17", "complete": "true"}
    answer = ask(service, "event-counts", **params, interval="week")
    assert answer["data"]["events"] == 1
    assert [b["day"] for b in answer["data"]["series"]] == ["2025-03-10"]
    assert answer["meta"]["start"] == "2025-03-10T00:00:00Z"
    assert answer["meta"]["end"] == "2025-03-17T00:00:00Z"
    path = "/analytics/event-counts"
    for more, message in (
        ({"interval": "month"}, "the range has no whole month that is over"),
        ({}, "needs `interval`: without it there are no periods"),
    ):
        refused = service.get(path, params={**params, **more})
        assert_problem(refused, 422, "invalid-parameter", "complete")
        assert refused.json()["errors"][0]["message"] == message


def test_complete_leaves_out_the_present_day(service: httpx.Client, conn: connection) -> None:
    now = datetime.now(UTC)
    insert(conn, ("u", "view", now), ("v", "view", now - DAY))
    days = ask(service, "active-users", last="2d", complete="true")["data"]["series"]
    assert [(day["dau"], day["partial"]) for day in days] == [(1, False)]
    series = data(service, last="2d", interval="day", complete="true")
    assert (series["events"], len(series["series"])) == (1, 1)


def test_a_range_that_has_not_begun_has_no_series_and_none_before_it(
    service: httpx.Client,
) -> None:
    """The range before it has begun, but nothing of it is compared yet."""
    today = datetime.now(UTC).date()
    params = {"start": today + 2 * DAY, "end": today + 5 * DAY, "compare": "previous"}
    for interval in ("hour", "day", "week", "month"):
        counts = data(service, **params, interval=interval)
        assert (counts["events"], counts["previous"]["events"]) == (0, 0)
        assert counts["series"] == counts["previous"]["series"] == []


def test_the_previous_range_has_a_series_of_the_same_positions(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("u", "view", NOON), ("u", "view", NOON - DAY), ("v", "view", NOON - DAY))
    params = {"start": "2025-03-10", "end": "2025-03-12", "interval": "day", "compare": "previous"}
    answer = data(service, **params)
    previous = answer["previous"]
    assert [(b["day"], b["events"], b["users"]) for b in answer["series"]] == [
        ("2025-03-10", 1, 1),
        ("2025-03-11", 0, 0),
    ]
    assert [(b["day"], b["events"], b["users"]) for b in previous["series"]] == [
        ("2025-03-08", 0, 0),
        ("2025-03-09", 2, 2),
    ]
    assert (previous["events"], previous["users"]) == (2, 2)


def test_only_named_events_are_counted(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u", "view", NOON), ("v", "buy", NOON), ("w", "leave", NOON))
    params = {"start": "2025-03-10", "end": "2025-03-11", "event": ["buy", "leave"]}
    assert data(service, **params) == {"events": 2, "users": 2}


def test_the_present_bucket_is_partial_and_the_future_left_out(
    service: httpx.Client, conn: connection
) -> None:
    now = datetime.now(UTC)
    insert(conn, ("u", "view", now))
    series = data(service, start=(now - DAY).date(), end="2099-01-01", interval="year")["series"]
    assert series[-1]["partial"] is True
    assert series[-1]["events"] == 1
    assert datetime.fromisoformat(series[-1]["start"]) <= now


def test_a_committed_event_is_in_the_next_uncached_answer(
    service: httpx.Client, conn: connection
) -> None:
    params = {"start": "2025-03-10", "end": "2025-03-11"}
    assert data(service, **params)["events"] == 0
    insert(conn, ("u", "view", NOON))
    fresh = service.get(
        "/analytics/event-counts", params=params, headers={"Cache-Control": "no-cache"}
    )
    assert fresh.headers["x-cache"] == "miss"
    assert fresh.json()["data"]["events"] == 1


def test_the_last_days_are_whole_and_today_is_among_them(
    service: httpx.Client, conn: connection
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    insert(conn, ("a", "view", today - DAY), ("b", "view", today - DAY - timedelta(seconds=1)))
    meta = ask(service, "event-counts", last="2d")["meta"]
    assert data(service, last="2d")["events"] == 1
    assert datetime.fromisoformat(meta["end"]) == today + DAY


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        (("2025-01-01", "2026-01-01"), "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        (("2025-03-01", "2025-04-01"), "2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"),
        (("2025-03-03", "2025-03-10"), "2025-02-24T00:00:00Z", "2025-03-03T00:00:00Z"),
        (
            ("2025-03-10T10:00:00Z", "2025-03-10T12:00:00Z"),
            "2025-03-10T08:00:00Z",
            "2025-03-10T10:00:00Z",
        ),
    ],
)
def test_the_previous_range(
    service: httpx.Client, asked: tuple[str, str], start: str, end: str
) -> None:
    previous = data(service, start=asked[0], end=asked[1], compare="previous")["previous"]
    assert previous == {"start": start, "end": end, "events": 0, "users": 0}


def test_buckets_carry_the_offset_of_their_zone(service: httpx.Client) -> None:
    params = {"start": "2025-03-30", "end": "2025-03-31", "tz": "Europe/Berlin", "interval": "hour"}
    series = data(service, **params)["series"]
    assert len(series) == 23
    assert (series[1]["start"], series[1]["end"]) == (
        "2025-03-30T01:00:00+01:00",
        "2025-03-30T03:00:00+02:00",
    )


def test_what_has_not_happened_is_not_counted(service: httpx.Client, conn: connection) -> None:
    """An event that is dated ahead would be in a total and in no bucket."""
    now = datetime.now(UTC)
    insert(conn, ("u", "fut", now - timedelta(hours=1)), ("v", "fut", now + timedelta(hours=3)))
    params = {"start": (now - timedelta(days=2)).date(), "end": (now + timedelta(days=40)).date()}
    counts = ask(service, "event-counts", **params, event="fut", interval="hour")["data"]
    assert (counts["events"], counts["users"]) == (1, 1)
    assert sum(bucket["events"] for bucket in counts["series"]) == 1
    assert ask(service, "top-events", **params, event="fut")["data"]["events"] == 1
    days = ask(service, "active-users", **params, event="fut")["data"]["series"]
    assert days[-1]["wau"] == 1


def test_hours_that_count_back_from_now_are_not_over(
    service: httpx.Client, conn: connection
) -> None:
    """They end with the moment of the question, and the next moment is in the next answer."""
    params = {"last": "24h", "event": "zzz"}
    assert ask(service, "event-counts", **params)["data"]["events"] == 0
    insert(conn, ("u", "zzz", datetime.now(UTC)))
    time.sleep(2.1)
    assert ask(service, "event-counts", **params)["data"]["events"] == 1


def test_compared_rows_tell_the_range_before_in_headers(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, *[("u", "view", "2025-03-09T12:00:00Z")] * 3)
    response = service.get(
        "/analytics/event-counts",
        params={"start": "2025-03-10", "end": "2025-03-11", "compare": "previous", "format": "csv"},
    )
    assert response.text.splitlines() == ["events,users", "0,0"]
    assert response.headers["x-previous-events"] == "3"
    assert response.headers["x-previous-users"] == "1"


def test_a_day_that_the_zone_left_out_is_an_empty_bucket(
    service: httpx.Client, conn: connection
) -> None:
    """By itself as well. The event is of the moment before the day after."""
    insert(conn, ("u", "view", datetime(2011, 12, 30, 9, 59, tzinfo=UTC)))
    never = {"start": "2011-12-30", "end": "2011-12-31", "tz": "Pacific/Apia"}
    moment = "2011-12-31T00:00:00+14:00"
    bucket = {"day": "2011-12-30", "start": moment, "end": moment, "events": 0, "users": 0}
    bucket |= {"partial": False, "cut": False}
    answer = ask(service, "event-counts", **never, interval="day", compare="previous")
    assert answer["data"]["series"] == [bucket]
    assert (answer["data"]["events"], answer["data"]["previous"]["events"]) == (0, 0)
    assert ask(service, "top-events", **never)["data"]["rows"] == []
    assert ask(service, "users/u/events", **never)["data"] == []
    (day,) = ask(service, "active-users", **never)["data"]["series"]
    assert (day["date"], day["dau"], day["wau"]) == ("2011-12-30", 0, 1)
    assert ask(service, "event-counts", **never, explain="true")["data"]["rows"] == 0
    in_utc = service.get("/analytics/event-counts", params={**never, "end": "2011-12-30"})
    assert_problem(in_utc, 422, "invalid-parameter", "start")


def test_a_remembered_question_has_no_more_buckets_than_any_other(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put when there were fewer: it has a start and no end."""
    today = datetime.now(UTC).date()
    start = datetime.combine(today, datetime.min.time(), UTC) + DAY - timedelta(hours=9_999)
    params = {"start": start.isoformat().replace("+00:00", "Z"), "interval": "hour"}
    refused = service.get("/analytics/event-counts", params=params)
    with monkeypatch.context() as earlier:
        earlier.setattr(base, "_now", lambda: datetime.now(UTC) - 3 * DAY)
        first = service.get("/analytics/event-counts", params=params)
    remembered = service.get("/analytics/event-counts", params=params)
    for answer in (refused, first, remembered):
        assert_problem(answer, 422, "invalid-parameter", "interval")
        assert answer.json()["errors"] == refused.json()["errors"]
