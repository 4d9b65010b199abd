"""A day whose statistics cannot be counted stops no other day and no other zone."""

import logging
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from config.database_errors import DatabaseUnavailable
from repo.rollups.daily_stats_refresh import FailedDay
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from utils.time.zones import zone

ZONES = ["America/New_York", "Asia/Tokyo", "UTC"]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
BAD = (NOW - 100 * DAY).date()

_REFUSING = """
create function refuse() returns trigger language plpgsql as
$$ begin raise exception 'this day is refused' using errcode = 'data_exception'; end $$;
create trigger refuse before insert on day_users for each row
when ({which}) execute function refuse();
"""


def refuse(conn: connection, which: str) -> None:
    """PostgreSQL refuses these rows."""
    conn.cursor().execute(_REFUSING.format(which=which))


def counted(conn: connection) -> dict[str, int]:
    """Days that have statistics."""
    with conn.cursor() as cur:
        cur.execute("select zone, count(*) from day_users group by zone")
        return dict(cur.fetchall())


def missing(conn: connection) -> list[tuple[str, date]]:
    with conn.cursor() as cur:
        cur.execute("select zone, day from daily_stats_queue order by 1, 2")
        return cur.fetchall()


@pytest.fixture
def writer(conn: connection) -> RollupWriter:
    """Of 501 days of three zones."""
    insert(conn, ("u", "view", NOW - 500 * DAY), ("u", "view", NOW))
    return RollupWriter(conn, [zone(name) for name in ZONES])


def test_all_others_are_counted(
    conn: connection, writer: RollupWriter, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(conn, f"new.zone = 'America/New_York' and new.day = '{BAD}'")
    days = (NOW.date() - (NOW - 500 * DAY).date()).days + 1
    assert days == 501
    assert writer.catch_up() == 2
    assert set(counted(conn)) == set(ZONES)
    assert counted(conn)["UTC"] == 501
    assert missing(conn) == [("America/New_York", BAD)]
    assert writer.failed_days == [FailedDay("America/New_York", BAD)]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        f"the daily statistics of America/New_York {BAD} could not be counted: "
        "the next attempt is in 60 s"
    ]
    assert writer.maintain() == {}


def test_it_is_tried_again(conn: connection, writer: RollupWriter) -> None:
    refuse(conn, f"new.zone = 'UTC' and new.day = '{BAD}'")
    writer.catch_up()
    conn.cursor().execute("drop trigger refuse on day_users")
    assert writer.maintain() == {}
    writer._stores.daily_stats._refresh._retries[
        FailedDay("UTC", BAD)
    ].next_try = 0  # as a minute later
    assert writer.maintain() == {"days": 1}
    assert (writer.failed_days, missing(conn)) == ([], [])
    assert counted(conn)["UTC"] == 501


def test_a_zone_that_fails_as_a_whole_comes_last(conn: connection, writer: RollupWriter) -> None:
    """As soon as one of its days has failed by itself."""
    refuse(conn, "new.zone = 'America/New_York'")
    while writer.step().has_more:
        pass
    while not writer.failed_days:
        assert writer.maintain()
    while set(counted(conn)) != {"Asia/Tokyo", "UTC"} or len(missing(conn)) > 501:
        assert writer.maintain()
    assert len(writer.failed_days) == 1


def test_days_of_a_zone_that_nobody_knows_are_forgotten(
    conn: connection, writer: RollupWriter
) -> None:
    writer.catch_up()
    with conn.cursor() as cur:
        cur.execute("insert into daily_stats_queue values ('Atlantis/Capital', '2026-01-01')")
        cur.execute("insert into daily_stats_queue values ('UTC', '2026-01-01')")
    assert writer.maintain() == {"days": 1}
    assert writer.maintain() == {"days": 1}
    assert (writer.failed_days, missing(conn)) == ([], [])


def test_no_day_is_to_blame_for_what_fails_all(conn: connection, writer: RollupWriter) -> None:
    while writer.step().has_more:
        pass
    conn.cursor().execute("alter table day_users rename to gone")
    with pytest.raises(DatabaseUnavailable):
        writer.maintain()
    assert writer.failed_days == []
