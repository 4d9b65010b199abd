"""Our tables live in the schema that sessions are started with, beside whatever else is there."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import parse_dsn

from repo.migrate import MigrationError, check_schema, check_schema_location, migrate, migrations
from repo.postgres_schema import lock_schema, other_schemas, own_schema
from repo.roles import ROLES, role_name, roles_without_usage
from tests.events import insert
from tests.live_server import identity_in
from tests.servers import Cluster
from tests.source_comparison import connected
from utils.session_options import in_schema

NAMES = ["analytics", "Analytics-2"]
NOON = "2026-03-20T12:00:00Z"
OURS = """
select   nspname || ' ' || kind, count(*)
from     (select relnamespace, case relkind when 'i' then 'indexes' else 'relations' end
          from   pg_class
          where  relkind <> 't'
          union  all
          select pronamespace, 'functions' from pg_proc
          union  all
          select connamespace, 'constraints' from pg_constraint where contype = 'c'
         ) as made (home, kind)
join     pg_namespace n on n.oid = home
where    nspname !~ '^pg_' and nspname <> 'information_schema'
group by 1
order by 1
"""
KINDS = ("constraints", "functions", "indexes", "relations")


@pytest.fixture
def empty_url(cluster: Cluster) -> Iterator[str]:
    url = in_schema(cluster.empty_database(), "public")
    yield url
    cluster.drop(url)


def migrated(url: str, schema: str) -> str:
    """The URL of an installation in this schema, which is there then."""
    found = in_schema(url, schema)
    with closing(psycopg2.connect(found)) as conn:
        migrate(conn, migrations())
    return found


def executed(url: str, text: str) -> list[tuple[Any, ...]]:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute(text)
        return cur.fetchall() if cur.description else []


@pytest.mark.parametrize("schema", NAMES)
def test_all_that_is_made_is_made_there(empty_url: str, schema: str) -> None:
    migrated(empty_url, schema)
    homes = dict(executed(empty_url, OURS))
    assert set(homes) == {f"{schema} {kind}" for kind in KINDS}
    path = "select proconfig from pg_proc where proname = 'leave_out_suppressed_event'"
    quoted = '"Analytics-2"' if schema == "Analytics-2" else schema
    assert executed(empty_url, path) == [([f"search_path=pg_catalog, {quoted}, pg_temp"],)]


def test_the_same_is_made_in_public(empty_url: str) -> None:
    """As many of each kind, and nothing that is not there otherwise."""
    migrated(empty_url, "public")
    migrated(empty_url, "analytics")
    homes = dict(executed(empty_url, OURS))
    for kind in KINDS:
        assert homes.pop(f"public {kind}") == homes.pop(f"analytics {kind}")
    assert homes == {}


def test_a_schema_that_is_there_is_used_by_whoever_may(empty_url: str, cluster: Cluster) -> None:
    """Without the right to make schemas, and grants that only the schema's owner may give."""
    executed(
        empty_url,
        "drop role if exists guest; create role guest login; create schema one; create schema two; "
        "grant usage, create on schema one to guest; grant usage on schema two to guest",
    )
    with closing(psycopg2.connect(in_schema(empty_url, "one"))) as conn:
        conn.cursor().execute("set session authorization guest")
        conn.commit()
        assert len(migrate(conn, migrations())) == len(migrations())
        with conn, conn.cursor() as cur:
            assert roles_without_usage(cur) == [role_name(role) for role in ROLES]
            cur.execute("reset session authorization")
            cur.execute("grant usage on schema one to analytics_reader, analytics_writer")
            assert roles_without_usage(cur) == ["analytics_rollup", "analytics_grafana"]
    told = {
        "two": "this role may not change the schema: permission denied for schema two",
        "three": 'let an administrator run `create schema "three" authorization',
        "four": "this role may not change the schema: permission denied for schema four",
    }
    executed(empty_url, "create schema four")
    for schema, line in told.items():
        with closing(psycopg2.connect(in_schema(empty_url, schema))) as conn:
            conn.cursor().execute("set session authorization guest")
            conn.commit()
            with pytest.raises(MigrationError, match=line):
                migrate(conn, migrations())
    with connected(empty_url) as conn:
        conn.cursor().execute("drop owned by guest; drop role guest")


def test_roles_may_use_the_schema(empty_url: str) -> None:
    url = migrated(empty_url, "analytics")
    may = "select name from unnest(%s) name where has_schema_privilege(name, 'analytics', '{}')"
    with connected(url) as conn, conn.cursor() as cur:
        for right, having in (("usage", [role_name(role) for role in ROLES]), ("create", [])):
            cur.execute(may.format(right), ([role_name(role) for role in ROLES],))
            assert [name for (name,) in cur] == having


def test_tables_of_another_program_are_named_and_nothing_is_done(empty_url: str) -> None:
    executed(empty_url, "create schema one; create table one.users (x int)")
    executed(empty_url, "create view one.events as select 1")
    url = in_schema(empty_url, "one")
    before = executed(url, OURS)
    for work in (migrate, check_schema, check_schema_location):
        with closing(psycopg2.connect(url)) as conn, pytest.raises(MigrationError) as refused:
            work(conn, migrations())
        assert str(refused.value) == (
            "the schema one has tables of another program, owned by analytics: events, users. This "
            "service needs these names: set ANALYTICS_SCHEMA to another schema, such as analytics, "
            "which `migrate` creates"
        )
    assert executed(url, OURS) == before


def test_a_name_that_is_no_table_leaves_nothing_half_done(empty_url: str) -> None:
    executed(empty_url, "create schema one; create type one.spans as enum ('a')")
    before = executed(empty_url, OURS)
    with (
        closing(psycopg2.connect(in_schema(empty_url, "one"))) as conn,
        pytest.raises(MigrationError, match=r"0003 rollups: .*spans.* or set ANALYTICS_SCHEMA to"),
    ):
        migrate(conn, migrations())
    assert executed(empty_url, OURS) == before
    with (
        closing(psycopg2.connect(in_schema(empty_url, "two"))) as conn,
        pytest.raises(errors.DivisionByZero),
    ):
        migrate(conn, [migrations()[0], type(migrations()[0])(2, "x", "select 1 / 0")])
    assert executed(empty_url, "select to_regnamespace('two')") == [(None,)]


def test_where_the_tables_are_is_told(empty_url: str) -> None:
    for schema in NAMES:
        migrated(empty_url, schema)
    executed(empty_url, "create table public.schema_migrations (version text)")
    with connected(in_schema(empty_url, "nothing")) as conn, conn.cursor() as cur:
        assert own_schema(cur) == "nothing"
        assert other_schemas(cur, "nothing") == ["Analytics-2", "analytics"]
        assert other_schemas(cur, "analytics") == ["Analytics-2"]
        line = (
            "^the schema nothing has no tables of this service, which are in: "
            r"Analytics-2, analytics\. Set ANALYTICS_SCHEMA to the schema of your tables"
        )
        for check in (check_schema, check_schema_location):
            with pytest.raises(MigrationError, match=line):
                check(conn, migrations())
        with pytest.raises(MigrationError, match=line):
            migrate(conn, migrations(), allow_second=False)
        cur.execute("select to_regnamespace('nothing')")
        assert cur.fetchone() == (None,)


def test_installations_do_not_wait_for_each_other(empty_url: str) -> None:
    with connected(empty_url) as conn, conn.cursor() as cur:
        cur.execute("begin")
        lock_schema(cur, "public")
        lock_schema(cur, "Analytics-2")
        with connected(empty_url) as other, other.cursor() as cur:
            cur.execute("set lock_timeout = '200ms'")
            cur.execute("begin")
            lock_schema(cur, "analytics")
            with pytest.raises(errors.LockNotAvailable):
                lock_schema(cur, "Analytics-2")


def test_many_are_made_at_once(empty_url: str) -> None:
    """In several schemas, some of them twice; what roles may in the database is one row for all."""
    name = parse_dsn(empty_url)["dbname"]
    executed(empty_url, f'revoke all on database "{name}" from public')
    start = threading.Barrier(8)

    def make(number: int) -> str:
        start.wait()
        return migrated(empty_url, f"installation{number % 4}")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(8)))) == 4
    with connected(empty_url) as conn, conn.cursor() as cur:
        assert other_schemas(cur, "public") == [f"installation{number}" for number in range(4)]


def test_installations_of_a_database_have_identities_of_their_own(empty_url: str) -> None:
    one, two = (migrated(empty_url, schema) for schema in NAMES)
    assert identity_in(one) == identity_in(one)
    assert identity_in(one) != identity_in(two)
    copied = "(select installation_id from analytics.installation)"
    executed(two, f"update installation set installation_id = {copied}")
    assert identity_in(one) != identity_in(two), "as where one was restored from the other's dump"


SHADOWS = """
create schema app;
create table app.suppressed_users (digest bytea);
create table app.refused_events (reason int);
create function app.lower(text) returns text language sql as $$ select 'shadowed' $$;
set search_path = app, public, pg_catalog;
create temporary table suppressed_users (digest bytea);
create temporary table refused_events (reason int);
"""


@pytest.mark.parametrize("schema", NAMES)
def test_triggers_work_in_sessions_with_other_search_paths(empty_url: str, schema: str) -> None:
    url = migrated(empty_url, schema)
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("insert into suppressed_users (digest) values (sha256('u'))")
        cur.execute(
            "create trigger events_suppressed before insert on events for each row "
            "execute function leave_out_suppressed_event('3', '')"
        )
        cur.execute(
            "create trigger events_expired before insert on events for each row "
            "when (new.occurred_at < '2026-01-01') execute function refuse_expired_event()"
        )
    events = f'"{schema}".events'
    with connected(empty_url) as platform, platform.cursor() as cur:
        cur.execute(SHADOWS)
        for user, moment in (("u", NOON), ("v", NOON), ("v", "2025-03-20T12:00:00Z")):
            cur.execute(
                f"insert into {events} (event_id, user_id, event_name, occurred_at) "
                "values (gen_random_uuid(), %s, 'view', %s)",
                (user, moment),
            )
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            cur.execute(f"delete from {events}")
        cur.execute("select count(*) from refused_events")
        assert cur.fetchone() == (0,)
    assert executed(url, "select user_id from events") == [("v",)]
    reasons = executed(url, "select reason from refused_events order by 1")
    assert reasons == [("expired",), ("suppressed",)]


def test_samples_of_users_are_dropped_there(empty_url: str) -> None:
    """And not where another one has a table of the same name."""
    executed(empty_url, "create table public.events (user_id text)")
    executed(empty_url, "insert into public.events select 'frodo' from generate_series(1, 300)")
    url = migrated(empty_url, "Analytics-2")
    with connected(url) as conn:
        conn.cursor().execute("alter table events alter user_id set statistics 100")
        insert(conn, *(("sam", "view", NOON) for _ in range(300)))
        conn.cursor().execute('analyze public.events, "Analytics-2".events')
        samples = "select schemaname from pg_stats where attname = 'user_id' order by 1"
        assert executed(url, samples) == [("Analytics-2",), ("public",)]
        migrated(empty_url, "Analytics-2")
        assert executed(url, samples) == [("public",)]
