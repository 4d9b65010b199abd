"""Behind a pooler, which ignores how sessions are to be started, the right tables are found."""

import time
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from pydantic import SecretStr

from common.questions.event_counts import EventCounts
from config.database import Database, connect, connect_with_timeout, get_connection
from config.database_errors import OtherSearchPath
from repo.api_keys import KeysRepo
from repo.database_identity import identity_of
from repo.events import EventsRepo
from repo.migrate import migrate, migrations
from services.api_key_secrets import digest_of
from tests.cli import run_cli
from tests.events import insert
from tests.live_server import identity_in, running
from tests.pooler import pooled
from tests.servers import KEY, Cluster, as_role
from tests.source_comparison import connected, finished
from utils.postgres import is_direct
from utils.session_options import in_schema

NOON = "2026-03-20T12:00:00Z"
COUNTS = EventCounts(start="2026-03-20", end="2026-03-21")
HERE = "Analytics-2"


@pytest.fixture
def plain_url(cluster: Cluster) -> Iterator[str]:
    """Of a database with two installations: two events in public, and one here."""
    url = in_schema(cluster.empty_database(), "public")
    for schema, users in (("public", ("u", "v")), (HERE, ("w",))):
        with closing(psycopg2.connect(in_schema(url, schema))) as conn:
            migrate(conn, migrations())
            with conn:
                insert(conn, *((user, "view", NOON) for user in users))
    yield url
    cluster.drop(url)


@pytest.fixture
def url(plain_url: str) -> Iterator[str]:
    with pooled(plain_url) as found:
        yield in_schema(found, HERE)


def test_the_pooler_of_the_tests_is_one(url: str) -> None:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("show search_path")
        assert cur.fetchone() == ('"$user", public',)
        assert not is_direct(conn)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(
        url, size=1, waiters=0, acquire_timeout_s=1, name="pooled", identify=identity_of
    )
    yield opened
    opened.close()


def events(database: Database) -> int:
    repo = EventsRepo(get_connection(database, time.monotonic() + 10))
    return finished(repo.get_event_counts(COUNTS.query)).data.events


def test_pools_set_the_search_path_in_each_transaction(database: Database, plain_url: str) -> None:
    assert events(database) == 1
    conn = database.pool.getconn()
    assert conn.identity == identity_in(in_schema(plain_url, HERE))
    with conn.cursor() as cur:
        cur.execute("select current_schema()")
        assert cur.fetchone() == ("public",), "what it does is over with the transaction"
        cur.execute("set search_path = public")  # of another client, whose session is lent
    database.pool.putconn(conn)
    assert events(database) == 1
    connection = get_connection(database, time.monotonic() + 10)
    with connection.transaction() as cur:
        cur.execute("select current_schemas(true)::text[]")
        assert cur.fetchone() == (["pg_catalog", HERE],)
    with connection.statement() as cur:
        cur.execute("select current_schemas(true)::text[]")
        assert cur.fetchone() == (["pg_catalog", HERE],)


LINE = (
    'behind the pooler, sessions of analytics have the search_path "$user", public: run '
    '`alter role analytics in database {} set search_path = "Analytics-2"` and let the pooler '
    "connect again, or set the URL to that of PostgreSQL itself"
)


def test_commands_print_the_missing_search_path_of_the_login(url: str, redis_url: str) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    with pytest.raises(OtherSearchPath) as refused, connect_with_timeout(url, "x", 5):
        pass
    assert str(refused.value) == LINE.format(name)
    for command in ("migrate", "verify", "serve"):
        done = run_cli(
            command,
            DATABASE_URL=url,
            REDIS_URL=redis_url,
            ANALYTICS_SCHEMA=HERE,
            ANALYTICS_PORT="0",
        )
        assert (done.exit_code, done.stderr) == (1, f"Error: {LINE.format(name)}\n")


def test_commands_work_if_the_login_has_the_search_path(
    url: str, plain_url: str, redis_url: str
) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    path = f'alter role analytics in database "{name}" set search_path = "{HERE}"'
    with connected(plain_url) as conn:
        conn.cursor().execute(path)
    environment = {"DATABASE_URL": url, "REDIS_URL": redis_url, "ANALYTICS_SCHEMA": HERE}
    assert run_cli("migrate", **environment).stdout == "The schema is up to date.\n"
    assert run_cli("rollup", "--once", **environment).exit_code == 0
    assert run_cli("verify", **environment).exit_code == 0
    with connected(plain_url) as conn, conn.cursor() as cur:
        cur.execute(f'select (select count(*) from "{HERE}".slots), (select count(*) from slots)')
        assert cur.fetchone() == (2, 0)


def test_the_search_path_may_be_set_before_the_schema_exists(cluster: Cluster) -> None:
    plain = in_schema(cluster.empty_database(), "public")
    name = plain.partition("?")[0].rpartition("/")[2]
    with connected(plain) as conn:
        conn.cursor().execute(f'alter database "{name}" set search_path = analytics')
    with pooled(plain) as found:
        done = run_cli("migrate", DATABASE_URL=found, ANALYTICS_SCHEMA="analytics")
        assert done.exit_code == 0, done.stderr
    with connected(plain) as conn, conn.cursor() as cur:
        cur.execute("select to_regclass('analytics.events') is not null")
        assert cur.fetchone() == (True,)
    cluster.drop(plain)


def test_where_the_tables_are_in_public_nothing_is_needed(plain_url: str) -> None:
    with pooled(plain_url) as found:
        connect(in_schema(found, "public"), "x").close()
        for command in (["rollup", "--once"], ["verify"]):
            done = run_cli(*command, DATABASE_URL=found, ANALYTICS_SCHEMA="public")
            assert done.exit_code == 0, done.stderr


def test_pools_need_nothing_of_the_login(plain_url: str, redis_url: str, cluster: Cluster) -> None:
    KeysRepo(psycopg2.connect(in_schema(plain_url, HERE))).create(
        "tests", digest_of(KEY), KEY[:8], ["read", "write"]
    )
    with pooled(plain_url) as found:
        roles = {
            "query_database_url": SecretStr(as_role(found, "reader")),
            "ingest_database_url": SecretStr(as_role(found, "writer")),
        }
        with running(plain_url, redis_url, ANALYTICS_SCHEMA=HERE, **roles) as service:
            sent = {"event_name": "view", "occurred_at": NOON, "user_id": "x"}
            assert service.post("/events", json=[sent]).json()["accepted"] == 1
            counts = service.get("/analytics/event-counts?start=2026-03-20&end=2026-03-21").json()
            assert counts["data"] == {"events": 2, "users": 2}
            assert service.get("/readyz").status_code == 200
    with connected(plain_url) as conn, conn.cursor() as cur:
        cur.execute(f'select (select count(*) from "{HERE}".events), (select count(*) from events)')
        assert cur.fetchone() == (2, 2)
