"""The tables for SQL readers say what the answers say."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from commands.verify import verify_all
from common.questions.active_users import ActiveUsers
from common.questions.top_events import TopEvents
from config.database import Database, get_connection
from repo.engine import cost, rollup_source
from repo.events import EventsRepo
from repo.lifecycle.erasure import EraseRepo
from repo.migrate import migrate, migrations
from repo.rollups import daily_stats, daily_stats_store
from repo.rollups.rollup_writer import RollupWriter
from tests.database_clock import set_clock
from tests.events import insert
from tests.example_counts import examples
from tests.servers import Cluster
from tests.source_comparison import connected, finished
from tools.dashboards import analytics as dashboard
from utils.time.zones import zone

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
    result_rows = rows(conn, "select day, dau, wau, mau from daily_users where zone = %s", tz)
    return {day: (dau, wau, mau) for day, dau, wau, mau in result_rows}


def writer(conn: connection, *names: str) -> RollupWriter:
    return RollupWriter(conn, [zone(name) for name in names])


stored = st.lists(
    st.tuples(
        st.sampled_from(["", "u1", "u2", "u3"]),
        st.sampled_from(["view", "buy"]),
        st.integers(0, 60 * 24 * 60).map(lambda minutes: NOW - timedelta(minutes=minutes)),
    ),
    min_size=1,
    max_size=20,
)


def fold_in_turn(conn: connection, *batches: list[Any]) -> None:
    folding = writer(conn, *ZONES)
    for batch in batches:
        insert(conn, *batch)
        folding.catch_up()


@given(first=stored, late=stored)
@settings(max_examples=examples(15))
@pytest.mark.thorough
def test_days_have_the_numbers_of_the_answers(
    conn: connection, repo: EventsRepo, first: list[Any], late: list[Any]
) -> None:
    """`late` may be of any of the days that were counted before; examples add up."""
    fold_in_turn(conn, first, late)
    for tz in ZONES:
        days = users(conn, tz)
        question = ActiveUsers(start=min(days), end=max(days) + DAY, tz=tz)
        answered = finished(repo.get_active_users(question.query)).data.series
        assert days == {point.date: (point.dau, point.wau, point.mau) for point in answered}
        for day in days:
            assert by_name(conn, tz, day) == answered_names(repo, tz, day)


def by_name(conn: connection, tz: str, day: date) -> dict[str, tuple[int, int]]:
    text = "select event_name, events, users from daily_events where zone = %s and day = %s"
    return {name: (events, by) for name, events, by in rows(conn, text, tz, day)}


def answered_names(repo: EventsRepo, tz: str, day: date) -> dict[str, tuple[int, int]]:
    top = finished(repo.get_top_events(TopEvents(start=day, end=day + DAY, tz=tz).query)).data.rows
    return {row.event_name: (row.events, row.users) for row in top}


@given(first=stored, late=stored)
@settings(max_examples=examples(15))
@pytest.mark.thorough
def test_who_is_new_was_not_there_on_the_29_days_before(
    conn: connection, database_url: str, first: list[Any], late: list[Any]
) -> None:
    fold_in_turn(conn, first, late)
    for tz in ZONES:
        text = (
            "select day, new_or_resurrected_users, returning_users from daily_users where zone = %s"
        )
        result_rows = rows(conn, text, tz)
        assert {day: (new, returning) for day, new, returning in result_rows} == seen(
            conn, tz, result_rows
        )
    assert verify_all(database_url, [zone(name) for name in ZONES]).listed == []


def seen(conn: connection, tz: str, days: list[Any]) -> dict[date, tuple[int, int]]:
    """New or resurrected and returning users of these days, in plain Python."""
    there: dict[date, set[str]] = {}
    for user, instant in rows(conn, "select user_id, occurred_at from events where user_id <> ''"):
        there.setdefault(instant.astimezone(ZoneInfo(tz)).date(), set()).add(user)
    first_days = {}
    for day, *_ in days:
        before = {user for n in range(1, 30) for user in there.get(day - n * DAY, ())}
        today = there.get(day, set())
        first_days[day] = (len(today - before), len(today & before))
    return first_days


NEW_AND_RETURNING = """
select   new_or_resurrected_users, returning_users
from     daily_users
where    dau > 0
order by day
"""


def test_a_user_is_resurrected_after_30_days(conn: connection, database_url: str) -> None:
    insert(conn, *(("u", "view", NOW - n * DAY) for n in (70, 40, 11, 0)))
    writer(conn, "UTC").catch_up()
    assert rows(conn, NEW_AND_RETURNING) == [(1, 0), (1, 0), (0, 1), (0, 1)]
    assert verify_all(database_url, [zone("UTC")]).listed == []


def test_a_late_event_makes_others_return(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - 20 * DAY))
    folding = writer(conn, "UTC")
    folding.catch_up()
    insert(conn, ("u", "view", NOW - 49 * DAY))
    folding.catch_up()
    assert rows(conn, NEW_AND_RETURNING) == [(1, 0), (0, 1)]


def test_days_are_counted_anew_after_an_upgrade(cluster: Cluster) -> None:
    """Numbers that were there tell who was new, some seconds later."""
    older = cluster.empty_database()
    with closing(psycopg2.connect(older)) as conn:
        migrate(conn, migrations()[:13])
    with connected(older) as conn:
        insert(conn, ("u", "view", NOW - 40 * DAY), ("u", "view", NOW - 40 * DAY))
        conn.cursor().execute(
            "insert into day_users values ('UTC', %s, %s, %s, 2, 1, 1, 1, now())",
            (NOW.date() - 40 * DAY, NOW - 41 * DAY, NOW - 39 * DAY),
        )
        with closing(psycopg2.connect(older)) as other:
            migrate(other, migrations())
        assert rows(conn, "select new_or_resurrected_users from daily_users") == [(None,)]
        assert rows(conn, "select day from daily_stats_queue") == [(NOW.date() - 40 * DAY,)]
        writer(conn, "UTC").catch_up()
        assert rows(conn, "select sum(new_or_resurrected_users), count(*) from daily_users") == [
            (1, 41)
        ]
    cluster.drop(older)


def test_days_between_the_first_events_have_numbers_at_once(conn: connection) -> None:
    """By a rollup worker that was there before them, and within the same quarter of an hour."""
    serving = writer(conn, "UTC")
    for _ in range(2):
        serving.catch_up()
    insert(conn, ("a", "view", NOW - 50 * DAY), ("b", "view", NOW))
    serving.catch_up()
    assert len(users(conn, "UTC")) == 51


def test_a_zone_that_is_declared_later_gets_all_its_days(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - 3 * DAY))
    writer(conn, "UTC").catch_up()
    assert users(conn, "Asia/Kolkata") == {}
    writer(conn, "UTC", "Asia/Kolkata").catch_up()
    assert [mau for _, _, mau in users(conn, "Asia/Kolkata").values()] == [1, 1, 1, 1]


def test_a_zone_that_is_no_longer_declared_is_forgotten(conn: connection) -> None:
    insert(conn, ("u", "view", NOW))
    writer(conn, *ZONES).catch_up()
    writer(conn, "UTC").delete_undeclared_zones()
    assert users(conn, "Europe/Berlin") == {}
    assert len(users(conn, "UTC")) == 1


def test_who_folds_once_for_fewer_zones_takes_none_away(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - 20 * DAY))
    serving = writer(conn, *ZONES)
    serving.catch_up()
    writer(conn, "UTC").catch_up()
    insert(conn, ("v", "view", NOW))
    serving.catch_up()
    assert len(users(conn, "Europe/Berlin")) == 21


def test_days_missed_by_the_rollup_worker_are_counted_later(
    conn: connection, database_url: str
) -> None:
    """Nothing happened on most of them."""
    insert(conn, ("a", "view", NOW - 20 * DAY), ("b", "view", NOW - 8 * DAY))
    writer(conn, *ZONES).catch_up()
    with conn.cursor() as cur:  # as the writer left it six days ago
        cur.execute(
            "update fold_state set folded_at = now() - interval '6 days';"
            "delete from day_users where ends_at > now() - interval '5 days';"
            "update day_users set counted_at = starts_at where ends_at > now() - interval '7 days'"
        )
    insert(conn, ("c", "view", NOW))
    writer(conn, *ZONES).catch_up()
    assert len(users(conn, "UTC")) == 21
    result_rows = rows(conn, "select count(*) from daily_users where partial")
    assert result_rows == [(len(ZONES),)]
    assert verify_all(database_url, [zone(name) for name in ZONES]).listed == []


def test_who_is_active_today_is_not_told_of_the_day_that_was_counted_last(conn: connection) -> None:
    """The rollup worker is away since."""
    statement = dashboard.SQL["analytics_today"].replace("$zone", "UTC")
    insert(conn, ("a", "view", datetime.now(UTC)))
    writer(conn, "UTC").catch_up()
    assert [dau for _, dau in rows(conn, statement)] == [1]
    with conn.cursor() as cur:
        cur.execute(
            "update day_users "
            "set day = day - 1, starts_at = starts_at - interval '1 day', "
            "    ends_at = ends_at - interval '1 day', counted_at = counted_at - interval '1 day'"
        )
    assert rows(conn, "select partial from daily_users") == [(True,)]
    assert rows(conn, statement) == []


def test_which_day_it_is_in_a_zone_is_not_asked_of_postgresql(conn: connection) -> None:
    """Its rules of the zone may be older: here, as if days began 14 hours earlier."""
    statement = dashboard.SQL["analytics_today"].replace("$zone", "UTC")
    insert(conn, ("a", "view", datetime.now(UTC)))
    writer(conn, "UTC").catch_up()
    with conn.cursor() as cur:
        cur.execute("update day_users set day = day + 1")
    assert [dau for _, dau in rows(conn, statement)] == [1]


def test_a_clock_that_is_put_back_takes_nothing_away(conn: connection, database_url: str) -> None:
    hour = timedelta(hours=1)
    insert(conn, ("a", "view", NOW - 26 * hour), ("b", "view", NOW - timedelta(minutes=1)))
    writer(conn, "UTC").catch_up()
    with conn.cursor() as cur:
        cur.execute("update fold_state set folded_at = now() + interval '1 hour'")
    insert(conn, ("c", "view", NOW + hour / 2))
    writer(conn, "UTC").catch_up()
    assert sum(events for (events,) in rows(conn, "select events from day_users")) == 3
    assert verify_all(database_url, [zone("UTC")]).listed == []


def test_what_is_too_much_for_a_question_is_counted(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "MAX_ROWS", 20)
    monkeypatch.setattr(rollup_source, "COST_CHECK_ROWS", 5)
    monkeypatch.setattr(daily_stats, "_MAX_ROWS", 100)
    insert(conn, *(("u", f"name{n}", NOW - day * DAY) for n in range(30) for day in range(5)))
    writer(conn, "UTC").catch_up()
    assert rows(conn, "select count(*) from day_events") == [(150,)]
    assert rows(conn, "select from daily_stats_queue") == []


def test_they_wait_while_very_many_events_do(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("a", "view", NOW))
    counting = writer(conn, "UTC")
    while counting.step().has_more:
        pass
    monkeypatch.setattr(daily_stats_store, "LONG_TAIL", 5)
    insert(conn, *[("b", "view", NOW)] * 10)
    assert counting.maintain()["days"] == 0
    counting.catch_up()
    assert users(conn, "UTC") == {NOW.date(): (2, 2, 2)}


@pytest.mark.parametrize("most", [3, 1_000])
def test_what_comes_in_while_days_are_counted_is_counted_too(
    conn: connection, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Also where it is so much that no day is counted before it is folded."""
    monkeypatch.setattr(daily_stats_store, "LONG_TAIL", most)
    insert(conn, ("a", "view", NOW - 500 * DAY), ("a", "view", NOW))
    late = [[("b", "view", NOW)] * 5]

    def write(unit: str, _: int) -> None:
        if unit == "days" and late:
            insert(conn, *late.pop())

    counting = writer(conn, "UTC")
    assert counting.catch_up(write) == 7
    assert (counting.count_pending(10), counting.count_due_days()) == (0, 0)
    assert users(conn, "UTC")[NOW.date()] == (2, 2, 2)
    assert len(users(conn, "UTC")) == 501


def test_the_day_that_goes_on_is_partial_and_others_are_not(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("u", "view", NOW))
    writer(conn, "UTC").catch_up()
    result_rows = rows(conn, "select partial, stickiness from daily_users order by day")
    assert result_rows == [(False, 1.0), (True, 1.0)]
    assert rows(conn, "select partial from daily_events order by day") == [(False,), (True,)]


def test_a_day_that_is_over_is_counted_once_more(conn: connection) -> None:
    """Then it is no longer partial, although nothing happened since."""
    insert(conn, ("u", "view", NOW - DAY))
    writer(conn, "UTC").catch_up()
    with conn.cursor() as cur:
        cur.execute("update day_users set counted_at = starts_at, wau = 7 where dau = 1")
    writer(conn, "UTC").catch_up()
    assert rows(conn, "select partial, wau from daily_users where dau = 1") == [(False, 1)]


def test_edges_that_a_worker_with_older_rules_left_are_corrected_within_an_hour(
    conn: connection, database_url: str
) -> None:
    """It may still run beside this one while an upgrade is rolled out."""
    insert(conn, *(("u", "view", NOW - days * DAY) for days in (9, 5, 0)))
    serving = writer(conn, "UTC")
    serving.catch_up()
    day = (NOW - 5 * DAY).date()
    with conn.cursor() as cur:
        cur.execute(
            "update day_users set starts_at = starts_at - interval '1 hour', mau = 7 "
            "where day = %s",
            (day,),
        )
    set_clock(conn, NOW + timedelta(hours=1))
    serving.catch_up()
    result_rows = rows(conn, "select starts_at, mau from day_users where day = %s", day)
    assert result_rows == [(datetime(day.year, day.month, day.day, tzinfo=UTC), 1)]
    assert verify_all(database_url, [zone("UTC")]).listed == []


def days_of(conn: connection, tz: str = "UTC") -> tuple[date, date]:
    """The first and the last that have numbers."""
    ((first, last),) = rows(conn, "select min(day), max(day) from day_users where zone = %s", tz)
    return first, last


def test_days_that_have_not_begun_go_when_the_clock_goes_back(
    conn: connection, database_url: str
) -> None:
    """By itself; an event of such a day waits for its time, and no span of it stays sealed."""
    set_clock(conn, NOW + 3 * DAY)
    insert(conn, ("a", "view", NOW - DAY), ("b", "buy", NOW + 2 * DAY))
    serving = writer(conn, *ZONES)
    serving.catch_up()
    assert days_of(conn) == ((NOW - DAY).date(), (NOW + 3 * DAY).date())
    set_clock(conn, NOW)
    serving.catch_up()
    for tz in ZONES:
        first, last = (instant.astimezone(ZoneInfo(tz)).date() for instant in (NOW - DAY, NOW))
        assert days_of(conn, tz) == (first, last)
        assert users(conn, tz)[last] == (0, 1, 1)
    assert rows(conn, "select event_name from day_events where zone = 'UTC'") == [("view",)]
    assert rows(conn, "select user_id from future_events") == [("b",)]
    text = "select from sealed_spans where end_slot > extract(epoch from now()) / 900"
    assert rows(conn, text) == []
    assert verify_all(database_url, [zone(name) for name in ZONES]).listed == []


_PLANTED = """
insert into day_users
select zone, day + %(days)s, starts_at, ends_at, 0, 0, 0, 0, counted_at, 0
from   day_users
where  day = %(day)s;
insert into day_events select distinct zone, %(day)s::date + %(days)s, 'sold', 1, 1 from day_users;
insert into daily_stats_queue select distinct zone, %(day)s::date + %(days)s from day_users;
"""


@pytest.mark.parametrize("days", [1, 400, -6, -400])
@pytest.mark.parametrize("cure", ["rebuild", "catch_up"])
def test_days_that_no_event_can_be_of_are_deleted(
    conn: connection, database_url: str, days: int, cure: str
) -> None:
    """By a rebuild and by a worker as it starts, also in a zone that these do not declare."""
    insert(conn, ("u", "view", NOW - 5 * DAY))
    writer(conn, "UTC", "Africa/Abidjan").catch_up()
    with conn.cursor() as cur:
        cur.execute(_PLANTED, {"days": days, "day": NOW.date()})
    assert verify_all(database_url, []).differences >= 2
    getattr(writer(conn, "UTC"), cure)()
    for table in ("day_users", "day_events", "daily_stats_queue"):
        text = f"select from {table} where not day between %s and %s"
        assert rows(conn, text, NOW.date() - 5 * DAY, NOW.date()) == []
    assert verify_all(database_url, []).listed == []


def test_a_rebuild_of_no_events_leaves_no_day(conn: connection, database_url: str) -> None:
    insert(conn, ("u", "view", NOW - 5 * DAY))
    serving = writer(conn, *ZONES)
    serving.catch_up()
    EraseRepo(conn).erase("u")
    assert len(users(conn, "UTC")) == 6
    assert serving.rebuild() == 0
    assert rows(conn, "select zone, day from day_users") == []
    assert verify_all(database_url, [zone(name) for name in ZONES]).listed == []
