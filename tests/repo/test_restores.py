"""Databases that are restored: nothing is counted twice, and nothing old is remembered."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection, parse_dsn

from common.questions import EventCounts
from config.failures import DatabaseUnavailable
from repo.rollups.folder import Folder
from tests.events import insert
from tests.rollups import Asker, asking, connected
from tests.servers import Cluster
from utils.zones import zone

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
            Folder(conn, ZONES).catch_up()
            assert counted(conn) == (seen, seen)
            asker.compare(EventCounts(last="3d"))
        execute(other, "commit")
    Folder(conn, ZONES).catch_up()
    assert counted(conn) == (403, 403)


def test_a_folder_waits_for_the_end_of_a_restore(conn: connection, asker: Asker) -> None:
    execute(conn, WITHOUT_CONSTRAINT)
    folder = Folder(conn, ZONES)
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
        Folder(conn, ZONES).catch_up()
    cluster.execute(f'create database {copy} template "{name}"')
    with connected(url) as conn:
        insert(conn, ("x", "view", NOW - 5 * DAY))
        Folder(conn, ZONES).catch_up()
    with asking(url) as asker:
        assert asker.compare(month).events == 3
    cluster.execute(f'drop database "{name}" with (force)')
    cluster.execute(f'create database "{name}" template {copy}')
    cluster.execute(f"drop database {copy}")
    with asking(url) as asker, connected(url) as conn:
        assert asker.compare(month).events == 2
        insert(conn, ("y", "view", NOW - 20 * DAY))
        Folder(conn, ZONES).catch_up()
        assert asker.compare(month).events == 3
    cluster.drop(url)
