"""The planner's samples of values hold nothing of users, however they came there."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection, parse_dsn

from repo.lifecycle.erasure import EraseRepo
from repo.migrate import migrate, migrations
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.servers import HOME, OLDER_POSTGRES, Cluster, older_postgres
from utils.time.zones import zone

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
IDS_OR_PROPERTIES = [
    ("ahead", "user_id"),
    ("catalogue_properties", "frequent_values"),
    ("catalogue_properties", "path"),
    ("column_data", "data"),
    ("column_paths", "path"),
    ("erasures", "erasure_id"),
    ("erasures", "proof"),
    ("events", "event_id"),
    ("events", "properties"),
    ("events", "user_id"),
    ("future_events", "user_id"),
    ("rejected_rows", "key"),
    ("slots", "users"),
    ("spans", "users"),
    ("suppressed_users", "digest"),
    ("users", "user_id"),
]
# What others may say of whom: names of events, zones, keys and tables, and digests of secrets.
NOBODYS = [
    ("adopted_tables", "fields"),
    ("adopted_tables", "table_name"),
    ("api_keys", "digest"),
    ("api_keys", "hint"),
    ("api_keys", "name"),
    ("api_keys", "origins"),
    ("api_keys", "scopes"),
    ("event_checks", "event_id"),
    ("event_checks", "event_name"),
    ("event_checks", "properties"),
    ("event_checks", "user_id"),
    ("ahead", "event_name"),
    ("catalogue_counts", "columns"),
    ("catalogue_names", "event_name"),
    ("column_state", "backfilled_id"),
    ("day_events", "event_name"),
    ("day_events", "zone"),
    ("day_users", "zone"),
    ("event_names", "event_name"),
    ("events", "event_name"),
    ("fold_state", "lineage"),
    ("fold_state", "swept_id"),
    ("future_events", "event_name"),
    ("installation", "installation_id"),
    ("daily_stats_queue", "zone"),
    ("refused_events", "reason"),
    ("rejected_rows", "reason"),
    ("schema_migrations", "checksum"),
    ("schema_migrations", "name"),
]
MAKE_OWNER = """
do $$
begin
    create role analytics_test_owner createrole;
exception when duplicate_object or unique_violation then null;
end
$$
"""
TARGET = "alter table events alter user_id set statistics {0}, alter properties set statistics {0}"


def rows(conn: connection, text: str, *values: object) -> list[tuple[object, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return cur.fetchall()


def samples(conn: connection) -> str:
    """All values that there are in the statistics of all tables."""
    return str(
        rows(
            conn,
            "select tablename, attname, most_common_vals::text, histogram_bounds::text, "
            "most_common_elems::text from pg_stats where schemaname = current_schema()",
        )
    )


def sampled(conn: connection) -> set[tuple[object, ...]]:
    return set(
        rows(
            conn,
            "select tablename, attname from pg_stats where schemaname = current_schema() "
            "and (tablename, attname) = any(select * from unnest(%s::name[], %s::name[]))",
            [table for table, _ in IDS_OR_PROPERTIES],
            [column for _, column in IDS_OR_PROPERTIES],
        )
    )


def test_each_column_of_text_is_known_to_hold_users_or_not(conn: connection) -> None:
    """A new one is added to `statistics_settle` or to the list of what is nobody's here."""
    columns = rows(
        conn,
        "select relname, attname, attstattarget = 0 from pg_attribute "
        f"join pg_class c on c.oid = attrelid where relnamespace = {HOME} "
        "and relkind in ('r', 'p', 'm') and attnum > 0 and not attisdropped "
        "and atttypid not in (select oid from pg_type where typcategory in ('N', 'D', 'B')) "
        "and format_type(atttypid, null) <> all(array['xid8', 'pg_snapshot', 'oid'])",
    )
    text_columns = {bool(is_settled): set[tuple[object, object]]() for is_settled in (True, False)}
    for table, column, is_settled in columns:
        text_columns[bool(is_settled)].add((table, column))
    assert text_columns[True] == set(IDS_OR_PROPERTIES)
    assert text_columns[False] == set(NOBODYS)


def fill(conn: connection, users: int = 300) -> None:
    """One user has a name and properties of their own, at a time of their own."""
    insert(conn, *((f"u{n % users}", "view", NOON + timedelta(seconds=n)) for n in range(3_000)))
    insert(conn, *(("frodo", "view", NOON + timedelta(days=1, seconds=n)) for n in range(300)))
    insert(conn, ("frodo", "view", datetime.now(UTC) + timedelta(minutes=2)))
    with conn.cursor() as cur:
        cur.execute(
            "insert into events (event_id, user_id, event_name, occurred_at, properties) "
            "select gen_random_uuid(), 'frodo', 'view', '2026-03-21', '{\"of\": \"bag end\"}' "
            "from generate_series(1, 300)"
        )
    RollupWriter(conn, [zone("UTC")]).catch_up()


def test_analyze_takes_no_samples_of_users(conn: connection) -> None:
    fill(conn)
    conn.cursor().execute("analyze")
    sampled_values = samples(conn)
    assert (
        "'events', 'occurred_at'" in sampled_values,
        "'events', 'event_name'" in sampled_values,
    ) == (True, True)
    assert sampled(conn) == set()
    assert ("frodo" in sampled_values, "bag end" in sampled_values, "u17" in sampled_values) == (
        False,
        False,
        False,
    )


Opened = tuple[connection, bool]
VERSIONS = ["18", "15"] if OLDER_POSTGRES.exists() else ["18"]


@pytest.fixture(params=[(version, owner) for version in VERSIONS for owner in (None, "somebody")])
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    """A migrated database, of a superuser or not; and whether samples can be dropped there.

    Before 18 PostgreSQL has no way for who is no superuser.
    """
    version, owner = request.param
    with ExitStack() as stack:
        if version == "18":
            cluster = request.getfixturevalue("cluster")
        else:
            cluster = Cluster(stack.enter_context(older_postgres()).database_url)
        url = cluster.empty_database()
        stack.callback(cluster.drop, url)
        conn = stack.enter_context(closing(psycopg2.connect(url)))
        if owner:
            cluster.execute(MAKE_OWNER)
            name = parse_dsn(url)["dbname"]
            cluster.execute(f'alter database "{name}" owner to analytics_test_owner')
            conn.cursor().execute("set session authorization analytics_test_owner")
            conn.commit()
        migrate(conn, migrations())
        conn.autocommit = True
        yield conn, owner is None or version == "18"


def take_samples(conn: connection) -> None:
    """As a version did that knew nothing of this."""
    conn.cursor().execute(TARGET.format(100) + "; analyze")
    sampled_values = samples(conn)
    assert ("frodo" in sampled_values, "bag end" in sampled_values) == (True, True)


def assert_few_remain(conn: connection, may_drop: bool) -> None:
    if may_drop:
        assert sampled(conn) == set()
        return
    remaining = rows(
        conn,
        "select coalesce(cardinality(histogram_bounds::text::text[]), 0), "
        "coalesce(cardinality(most_common_vals::text::text[]), 0) from pg_stats "
        "where tablename = 'events' and attname = 'user_id'",
    )
    assert [(bounds <= 2, values <= 1) for bounds, values in remaining] == [(True, True)]  # type: ignore[operator]


def test_samples_of_before_go_with_migrate(opened: Opened) -> None:
    conn, may_drop = opened
    fill(conn)
    take_samples(conn)
    conn.autocommit = False
    migrate(conn, migrations())
    conn.autocommit = True
    assert_few_remain(conn, may_drop)
    conn.cursor().execute("analyze")
    assert_few_remain(conn, may_drop)


def test_samples_of_before_go_with_an_erasure(opened: Opened) -> None:
    """Where nobody has called migrate since, or an administrator has them taken."""
    conn, may_drop = opened
    fill(conn)
    take_samples(conn)
    for user in ("frodo", "u0", "u1"):
        EraseRepo(conn).erase(user)
        sampled_values = samples(conn)
        assert (user in re.findall(r"\w+", sampled_values), "bag end" in sampled_values) == (
            False,
            False,
        )
    assert_few_remain(conn, may_drop)


def test_samples_go_when_the_last_user_is_erased(opened: Opened) -> None:
    """`analyze` of a table without rows would leave the samples as they were."""
    conn, _ = opened
    fill(conn, users=10)
    take_samples(conn)
    with conn.cursor() as cur:
        cur.execute("select distinct user_id from events order by user_id desc")
        users = [user for (user,) in cur]
    for user in users:
        EraseRepo(conn).erase(user)
    sampled_values = samples(conn)
    assert [
        text for text in ("frodo", "bag end", "2026-03-21 00:00") if text in sampled_values
    ] == []
    assert sampled(conn) == set()


def test_times_of_a_user_go_from_the_samples(conn: connection) -> None:
    """Of columns whose samples the planner needs new ones are taken, if they hold any."""
    fill(conn)
    conn.cursor().execute("analyze")
    assert "2026-03-21 00:00" in samples(conn)
    EraseRepo(conn).erase("frodo")
    assert "2026-03-21 00:00" not in samples(conn)
    before = rows(conn, "select last_analyze from pg_stat_user_tables where relname = 'events'")
    insert(conn, ("sam", "view", NOON + timedelta(seconds=7, microseconds=1)))
    EraseRepo(conn).erase("sam")
    conn.cursor().execute("select pg_stat_force_next_flush()")
    after = rows(conn, "select last_analyze from pg_stat_user_tables where relname = 'events'")
    assert after == before, "who is in no sample costs none"
