"""Databases that are restored: nothing is counted twice, and nothing old is remembered."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection, parse_dsn

from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Database, get_connection
from config.database_errors import DatabaseUnavailable
from repo.cache_versions import CacheVersions, CacheVersionsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.replica import PostgresServer, copy_of, postgres_programs
from tests.servers import Cluster
from tests.source_comparison import Asker, connected, open_asker
from tests.tempdirs import temp_dir
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)

# What pg_restore does: the constraint comes after the data.
WITHOUT_CONSTRAINT = "alter table events drop constraint events_ingested_xid_is_its_own"
WITH_CONSTRAINT = """
alter table events add constraint events_ingested_xid_is_its_own
check (ingested_xid = pg_current_xact_id()) not valid
"""
ROWS_OF_ELSEWHERE = """
insert into events (event_id, user_id, event_name, occurred_at, ingested_xid)
select gen_random_uuid(), 'u' || n, 'view', now() - interval '1 day',
       (pg_current_xact_id()::text::bigint - 100 + n)::text::xid8
from   generate_series(1, 400) as n
"""


def execute(conn: connection, *texts: str) -> None:
    with conn.cursor() as cur:
        for text in texts:
            cur.execute(text)


def counted(conn: connection) -> tuple[int, int]:
    """The events there are, and those in slots."""
    with conn.cursor() as cur:
        cur.execute(
            "select (select count(*) from events), coalesce(sum(events), 0)::int from slots "
            "where name_id = 0"
        )
        stored, folded = cur.fetchone() or (0, 0)
    return stored, folded


def test_ids_of_elsewhere_may_be_those_of_transactions_under_way(
    conn: connection, database_url: str, asker: Asker
) -> None:
    execute(conn, WITHOUT_CONSTRAINT, ROWS_OF_ELSEWHERE, WITH_CONSTRAINT)
    with connected(database_url) as other:
        execute(other, "begin")
        insert(other, ("w", "view", NOW - DAY))
        for seen in (401, 402):
            insert(conn, ("x", "view", NOW - DAY))
            RollupWriter(conn, ZONES).catch_up()
            assert counted(conn) == (seen, seen)
            asker.compare(EventCounts(last="3d"))
        execute(other, "commit")
    RollupWriter(conn, ZONES).catch_up()
    assert counted(conn) == (403, 403)


def test_the_rollup_worker_waits_for_the_end_of_a_restore(conn: connection, asker: Asker) -> None:
    execute(conn, WITHOUT_CONSTRAINT)
    folder = RollupWriter(conn, ZONES)
    with pytest.raises(DatabaseUnavailable, match="being restored"):
        folder.catch_up()
    execute(conn, ROWS_OF_ELSEWHERE, WITH_CONSTRAINT)
    for _ in range(2):
        folder.catch_up()
        assert counted(conn) == (400, 400)
    assert asker.compare(EventCounts(last="3d")).events == 400


def test_nothing_of_what_a_restore_undid_is_remembered(cluster: Cluster) -> None:
    """A copy takes the place of the database, in the same cluster, while a worker lives on."""
    url, copy = cluster.migrated_database(), "copy_of_the_past"
    name = parse_dsn(url)["dbname"]
    month = EventCounts(start=NOW - 50 * DAY, end=NOW - 2 * DAY, interval="day")
    with connected(url) as conn:
        insert(conn, ("a", "view", NOW - 5 * DAY), ("b", "view", NOW - 40 * DAY))
        RollupWriter(conn, ZONES).catch_up()
    cluster.execute(f'create database {copy} template "{name}"')
    with connected(url) as conn:
        insert(conn, ("x", "view", NOW - 5 * DAY))
        RollupWriter(conn, ZONES).catch_up()
    with open_asker(url) as asker:
        assert asker.compare(month).events == 3
    cluster.execute(f'drop database "{name}" with (force)')
    cluster.execute(f'create database "{name}" template {copy}')
    cluster.execute(f"drop database {copy}")
    with open_asker(url) as asker, connected(url) as conn:
        assert asker.compare(month).events == 2
        insert(conn, ("y", "view", NOW - 20 * DAY))
        RollupWriter(conn, ZONES).catch_up()
        assert asker.compare(month).events == 3
    cluster.drop(url)


@pytest.fixture
def server(cluster: Cluster) -> Iterator[tuple[PostgresServer, str]]:
    """One that can be stopped, and the url of its only migrated database in the other cluster."""
    url = cluster.migrated_database()
    with temp_dir("restores") as made:
        copied = copy_of(url, made, "server", postgres_programs(made))
        (copied.folder / "standby.signal").unlink()
        yield copied, url
    cluster.drop(url)


def save(server: PostgresServer, name: str) -> None:
    copied = server.folder.parent / name
    subprocess.run(["cp", "-a", str(server.folder), str(copied)], check=True)


def put_back(server: PostgresServer, saved: str) -> None:
    shutil.rmtree(server.folder)
    (server.folder.parent / saved).rename(server.folder)


def test_files_that_are_put_back_while_the_server_is_stopped_leave_nothing_remembered(
    server: tuple[PostgresServer, str],
) -> None:
    """Neither its timeline nor an oid changes, and numbers are given out again."""
    stopped, like = server
    month = EventCounts(start=NOW - 50 * DAY, end=NOW - 2 * DAY, interval="day")
    top = TopEvents(start=NOW - 50 * DAY, end=NOW - 2 * DAY)
    with stopped.running(like) as url, connected(url) as conn:
        insert(conn, *[("a", "old", NOW - 5 * DAY)] * 50)
        RollupWriter(conn, ZONES).catch_up()
    save(stopped, "saved")
    with stopped.running(like) as url, connected(url) as conn, open_asker(url) as asker:
        insert(conn, *[("b", "foo", NOW - 5 * DAY)] * 7)
        RollupWriter(conn, ZONES).catch_up()
        assert named(asker, top) == {"old": 50, "foo": 7}
        assert asker.compare(month).events == 57
        assert asker.rollup_answers == 2
    put_back(stopped, "saved")
    with stopped.running(like) as url, connected(url) as conn, open_asker(url) as asker:
        assert asker.compare(month).events == 50
        insert(conn, *[("c", "bar", NOW - 5 * DAY)] * 3)
        RollupWriter(conn, ZONES).catch_up()
        assert named(asker, top) == {"old": 50, "bar": 3}
        assert asker.compare(month).events == 53


def named(asker: Asker, question: TopEvents) -> dict[str, int]:
    return {row.event_name: row.events for row in asker.compare(question).rows}


def test_the_changes_of_a_past_that_was_put_back_are_read_anew(
    server: tuple[PostgresServer, str],
) -> None:
    """A worker knows up to which version it has read, and versions begin anew below it."""
    stopped, like = server
    with stopped.running(like) as url, connected(url) as conn:
        insert(conn, ("a", "old", NOW - 40 * DAY))
        RollupWriter(conn, ZONES).catch_up()
    save(stopped, "saved")
    with stopped.running(like) as url, connected(url) as conn:
        for days in (40, 10, 40, 10):
            insert(conn, ("b", "foo", NOW - days * DAY))
            RollupWriter(conn, ZONES).catch_up()
        remembered = past(url, None)
    put_back(stopped, "saved")
    with stopped.running(like) as url, connected(url) as conn:
        insert(conn, ("c", "bar", NOW - 40 * DAY))
        RollupWriter(conn, ZONES).catch_up()
        assert past(url, remembered) == past(url, None) != remembered


def past(url: str, versions: CacheVersions | None) -> CacheVersions | None:
    """What a worker knows of late events after it looked."""
    database = Database(url, size=1, waiters=0, acquire_timeout_s=1, name="worker")
    with closing(database):
        cache_past = CacheVersionsRepo(get_connection(database, time.monotonic() + 60)).get_state(
            versions
        )
    assert cache_past is not None
    return cache_past.cache_versions
