"""Every day of 21 years of real events, as plain SQL counts it."""

import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg2
import pytest

from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Database, get_connection
from repo.events import EventsRepo
from tests.example_counts import IS_LONG
from tests.source_comparison import finished

ZONES = ["UTC", "Australia/Lord_Howe"]
if IS_LONG:
    ZONES += ["America/New_York", "Asia/Kathmandu"]
FIRST, END = date(2005, 1, 1), date(2026, 9, 1)

BY_DAY = """
select   (occurred_at at time zone %(tz)s)::date, count(*), count(distinct nullif(user_id, ''))
from     events
group    by 1
"""
BY_MONTH = """
select   date_trunc('month', occurred_at at time zone %(tz)s)::date, event_name, count(*),
         count(distinct nullif(user_id, ''))
from     events
group    by 1, 2
"""


@pytest.fixture
def repo(history_url: str) -> Iterator[EventsRepo]:
    database = Database(history_url, size=1, waiters=0, acquire_timeout_s=1, name="days")
    yield EventsRepo(get_connection(database, time.monotonic() + 600))
    database.close()


def rows(url: str, text: str, tz: str) -> list[tuple[Any, ...]]:
    conn = psycopg2.connect(url)
    with conn, conn.cursor() as cur:
        cur.execute(text, {"tz": tz})
        fetched = cur.fetchall()
    conn.close()
    return fetched


@pytest.mark.thorough
@pytest.mark.parametrize("tz", ZONES)
def test_each_day_and_month(history_url: str, repo: EventsRepo, tz: str) -> None:
    expected = {day: (events, users) for day, events, users in rows(history_url, BY_DAY, tz)}
    assert sum(events for events, _ in expected.values()) == 200_925

    counted = finished(
        repo.get_event_counts(EventCounts(start=FIRST, end=END, tz=tz, interval="day").query)
    )
    series = counted.data.series
    assert len(series) == (END - FIRST).days
    assert {b.start.date(): (b.events, b.users) for b in series if b.events} == expected

    active = finished(
        repo.get_active_users(ActiveUsers(start=FIRST, end=END, tz=tz).query)
    ).data.series
    assert {point.date: point.dau for point in active if point.dau} == {
        day: users for day, (_, users) in expected.items()
    }

    months: dict[date, dict[str, tuple[int, int]]] = defaultdict(dict)
    for month, name, events, users in rows(history_url, BY_MONTH, tz):
        months[month][name] = (events, users)
    assert len(months) > 250
    for month, names in months.items():
        end = date(month.year + month.month // 12, month.month % 12 + 1, 1)
        question = TopEvents(start=month, end=end, tz=tz, limit=1000)
        top_rows = finished(repo.get_top_events(question.query)).data.rows
        assert {row.event_name: (row.events, row.users) for row in top_rows} == names
