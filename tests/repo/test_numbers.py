"""The tables for SQL readers say what the answers say."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from common.questions import ActiveUsers, TopEvents
from config.database import Database, get_connection
from repo.events import EventsRepo
from repo.rollups.folder import Folder
from tests.events import insert
from utils.zones import zone

ZONES = ["UTC", "Europe/Berlin"]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def repo(database_url: str) -> Iterator[EventsRepo]:
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="numbers")
    yield EventsRepo(get_connection(database, time.monotonic() + 600))
    database.close()


def rows(conn: connection, text: str, *values: object) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return cur.fetchall()


def users(conn: connection, tz: str) -> dict[date, tuple[int, int, int]]:
    found = rows(conn, "select day, dau, wau, mau from daily_users where zone = %s", tz)
    return {day: (dau, wau, mau) for day, dau, wau, mau in found}


def folder(conn: connection, *names: str) -> Folder:
    return Folder(conn, [zone(name) for name in names])


stored = st.lists(
    st.tuples(
        st.sampled_from(["", "u1", "u2", "u3"]),
        st.sampled_from(["view", "buy"]),
        st.integers(0, 60 * 24 * 60).map(lambda minutes: NOW - timedelta(minutes=minutes)),
    ),
    min_size=1,
    max_size=20,
)


@given(first=stored, late=stored)
@settings(max_examples=15)
def test_days_have_the_numbers_of_the_answers(
    conn: connection, repo: EventsRepo, first: list[Any], late: list[Any]
) -> None:
    """`late` may be of any of the days that were counted before; examples add up."""
    folding = folder(conn, *ZONES)
    insert(conn, *first)
    folding.catch_up()
    insert(conn, *late)
    folding.catch_up()
    for tz in ZONES:
        days = users(conn, tz)
        question = ActiveUsers(start=min(days), end=max(days) + DAY, tz=tz)
        answered = repo.get_active_users(question).data.series
        assert days == {point.date: (point.dau, point.wau, point.mau) for point in answered}
        for day in days:
            assert by_name(conn, tz, day) == answered_names(repo, tz, day)


def by_name(conn: connection, tz: str, day: date) -> dict[str, tuple[int, int]]:
    text = "select event_name, events, users from daily_events where zone = %s and day = %s"
    return {name: (events, by) for name, events, by in rows(conn, text, tz, day)}


def answered_names(repo: EventsRepo, tz: str, day: date) -> dict[str, tuple[int, int]]:
    top = repo.get_top_events(TopEvents(start=day, end=day + DAY, tz=tz)).data.rows
    return {row.event_name: (row.events, row.users) for row in top}


def test_a_zone_that_is_declared_later_gets_all_its_days(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - 3 * DAY))
    folder(conn, "UTC").catch_up()
    assert users(conn, "Asia/Kolkata") == {}
    folder(conn, "UTC", "Asia/Kolkata").catch_up()
    assert [mau for _, _, mau in users(conn, "Asia/Kolkata").values()] == [1, 1, 1, 1]


def test_a_zone_that_is_no_longer_declared_is_forgotten(conn: connection) -> None:
    insert(conn, ("u", "view", NOW))
    folder(conn, *ZONES).catch_up()
    folder(conn, "UTC").catch_up()
    assert users(conn, "Europe/Berlin") == {}
    assert len(users(conn, "UTC")) == 1


def test_the_day_that_goes_on_is_partial_and_others_are_not(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("u", "view", NOW))
    folder(conn, "UTC").catch_up()
    found = rows(conn, "select partial, stickiness from daily_users order by day")
    assert found == [(False, 1.0), (True, 1.0)]
    assert rows(conn, "select partial from daily_events order by day") == [(False,), (True,)]


def test_a_day_that_is_over_is_counted_once_more(conn: connection) -> None:
    """Then it is no longer partial, although nothing happened since."""
    insert(conn, ("u", "view", NOW - DAY))
    folder(conn, "UTC").catch_up()
    with conn.cursor() as cur:
        cur.execute("update day_users set counted_at = starts_at, wau = 7 where dau = 1")
    folder(conn, "UTC").catch_up()
    assert rows(conn, "select partial, wau from daily_users where dau = 1") == [(False, 1)]
