"""The whole life of the service in a schema of its own, beside a platform that has our names."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg2
import pytest
from click.testing import Result
from psycopg2.extensions import connection, cursor
from pydantic import SecretStr

from config.database import connect
from repo.api_keys import KeysRepo
from repo.migrate import migrate, migrations
from repo.roles import Role
from services.api_key_secrets import digest_of
from tests.api.questions import ask
from tests.cli import run_cli
from tests.live_server import running
from tests.servers import KEY, Cluster, as_role
from tests.source_comparison import connected
from tests.wait_until import wait_until
from utils.session_options import in_schema

OURS = re.compile(r"^(?:create (?:table|view)|alter table \w+ rename to) (\w+)", re.MULTILINE)
# All tables and views of ours, but for two that the platform uses in its own way.
TAKEN = {
    "schema_migrations",
    *(name for each in migrations() for name in OURS.findall(each.text)),
} - {"events", "users"}
PLATFORM = """
create table public.users (user_id bigint primary key, email text);
insert into public.users select n, n || '@shop.example' from generate_series(1, 10) n;
create table public.events (
    id bigserial primary key, user_id bigint, event_name text, at timestamptz
);
insert into public.events (user_id, event_name, at)
select n, 'order', timestamptz '2026-03-20 12:00Z' + n * interval '1 hour'
from   generate_series(1, 5) n;
"""
ORDER = "insert into public.events (user_id, event_name, at) values (%s, 'order', '2026-03-21')"
ADOPT = ("--table=events", "--map=event_id=id", "--map=occurred_at=at", "--yes")
MARCH = {"start": "2026-03-01", "end": "2026-04-01"}
NAMES = ["analytics", "Analytics-2"]
VERSION_0_1_0 = 15  # its last migration
Command = Callable[..., Result]


@pytest.fixture
def shared_url(cluster: Cluster) -> Iterator[str]:
    """Of a platform's database, in which every name of ours is taken."""
    url = in_schema(cluster.empty_database(), "public")
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute(PLATFORM)
        for name in TAKEN:
            cur.execute(f"create table public.{name} (mine text)")
            cur.execute(f"insert into public.{name} values ('of the platform')")
    before = platform(url)
    yield url
    after = platform(url)
    assert after[:2] == before[:2]
    assert after[2][: len(before[2])] == before[2]
    cluster.drop(url)


@pytest.fixture
def empty_url(cluster: Cluster) -> Iterator[str]:
    url = in_schema(cluster.empty_database(), "public")
    yield url
    cluster.drop(url)


def platform(url: str) -> tuple[Any, Any, Any]:
    """What it has: its users, its other tables, and its events."""
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute(
            f"select {', '.join(f'(select array_agg(t) from public.{n} t)' for n in TAKEN)}"
        )
        others = cur.fetchall()
        cur.execute("select array_agg(t order by user_id) from public.users t")
        users = cur.fetchall()
        cur.execute("select t::text from public.events t order by id")
        return users, others, cur.fetchall()


def commands(url: str, redis_url: str, schema: str) -> Command:
    """Those of an installation, each as the role that it needs."""
    plain = url.partition("?")[0]
    environment = {
        "DATABASE_URL": plain,
        "REDIS_URL": redis_url,
        "ANALYTICS_SCHEMA": schema,
        "ANALYTICS_INGEST_DATABASE_URL": as_role(plain, "writer"),
        "ANALYTICS_QUERY_DATABASE_URL": as_role(plain, "reader"),
        "ANALYTICS_ROLLUP_DATABASE_URL": as_role(plain, "rollup"),
    }

    def call(*arguments: str, **more: Any) -> Result:
        return run_cli(*arguments, **{**environment, **more})

    return call


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def installed(url: str, redis_url: str, schema: str) -> Command:
    """An installation with a key."""
    call = commands(url, redis_url, schema)
    done(call("migrate"))
    with closing(psycopg2.connect(in_schema(url, schema))) as conn:
        KeysRepo(conn).create("tests", digest_of(KEY), KEY[:8], ["read", "write", "admin"])
    return call


def serving(url: str, redis_url: str, schema: str) -> Any:
    plain = url.partition("?")[0]
    fold = SecretStr(as_role(plain, "rollup"))
    return running(plain, redis_url, ANALYTICS_SCHEMA=schema, rollup_database_url=fold)


@contextmanager
def platform_session(conn: connection) -> Iterator[cursor]:
    """Of a role that has rights on the platform's tables alone, and a search path of its own."""
    name = f"platform_{uuid4().hex}"
    with conn.cursor() as cur:
        cur.execute(f"create role {name}; grant select, insert on public.events to {name}")
        cur.execute(f"grant usage on sequence public.events_id_seq to {name}")
        cur.execute(f"set role {name}; set search_path = public, pg_catalog")
        yield cur
        cur.execute(f"reset role; drop owned by {name}; drop role {name}")


def event(n: int, user: str, name: str = "view", day: int = 20) -> dict[str, str]:
    return {
        "event_id": f"00000000-0000-4000-8000-{n:012}",
        "user_id": user,
        "event_name": name,
        "occurred_at": f"2026-03-{day}T10:00:00Z",
    }


def loaded(call: Command, folder: Path, *events: dict[str, str]) -> None:
    file = folder / "events.ndjson"
    file.write_text("".join(json.dumps(each) + "\n" for each in events))
    done(call("load", str(file)))


def counts(service: httpx.Client) -> tuple[int, int]:
    data = ask(service, "event-counts", **MARCH)["data"]
    return data["events"], data["users"]


def assert_counts(service: httpx.Client, expected: tuple[int, int]) -> None:
    """Late events change cached answers within a second."""
    wait_until(lambda: counts(service) == expected, timeout_s=5)


def test_without_the_setting_nothing_is_done(shared_url: str, redis_url: str) -> None:
    call = commands(shared_url, redis_url, "public")
    for command in (["migrate"], ["serve"], ["keys", "list"], ["verify"], ["adopt", *ADOPT]):
        refused = call(*command, ANALYTICS_PORT="0")
        assert refused.exit_code == 1
        (line,) = refused.stderr.splitlines()
        assert re.fullmatch(
            r"Error: the schema public has tables of another program, owned by \w+: adopted_parts, "
            r".*\bevents, .*\busers\. This service needs these names: set ANALYTICS_SCHEMA to "
            r"another schema, such as analytics, which `migrate` creates",
            line,
        )


@pytest.mark.parametrize("schema", NAMES)
def test_a_life(shared_url: str, redis_url: str, tmp_path: Path, schema: str) -> None:
    call = installed(shared_url, redis_url, schema)
    loaded(call, tmp_path, event(1, "u"), event(2, "v"), event(3, "v", "buy", 21), event(4, "w"))
    with serving(shared_url, redis_url, schema) as service:
        assert service.get("/readyz").json()["checks"]["database"] == "ok"
        assert service.post("/events", json=[event(5, "x")]).json()["accepted"] == 1
        assert_counts(service, (5, 4))
        assert "Folded 5 events" in done(call("rollup", "--once"))
        top = ask(service, "top-events", **MARCH)
        assert (top["meta"]["source"], [row["event_name"] for row in top["data"]["rows"]]) == (
            "rollups",
            ["view", "buy"],
        )
        active = ask(service, "active-users", start="2026-03-20", end="2026-03-22")["data"]
        assert [(day["dau"], day["wau"]) for day in active["series"]] == [(4, 4), (1, 4)]
        history = ask(service, "users/v/events", **MARCH)["data"]
        assert [row["event_name"] for row in history] == ["buy", "view"]
        done(call("verify"))

        # The platform's own events, by a trigger that fires in its sessions.
        assert "public.events: 5 rows, 5 events, rejected 0\n" in done(call("adopt", *ADOPT))
        with connected(shared_url) as conn, platform_session(conn) as cur:
            cur.execute(ORDER, (1,))
        done(call("rollup", "--once"))
        assert_counts(service, (11, 9))
        assert done(call("adopt", "--table=public.events", "--check")).startswith(
            "public.events: 6 rows, 6 events"
        )
        assert '"state": "action"' not in done(call("status", "--json"))

        done(call("erase", "u", "--yes", "--suppress"))
        assert service.delete("/analytics/users/w").status_code == 200
        assert_counts(service, (9, 7))
        assert ask(service, "users/u/events", **MARCH)["data"] == []
        loaded(call, tmp_path, event(6, "u"))
        with connected(in_schema(shared_url, schema)) as conn, conn.cursor() as cur:
            cur.execute("select count(*) from events where user_id = 'u'")
            assert cur.fetchone() == (0,), "the user is suppressed"

        done(call("retain", "--raw=30d", "--yes", ANALYTICS_REQUEST_TIMEOUT_S="0.5"))
        assert_counts(service, (9, 7))
        done(call("verify"))
    readable: dict[Role, str] = {"reader": "events", "grafana": "daily_users"}
    for role, table in readable.items():
        with connected(in_schema(as_role(shared_url, role), schema)) as conn, conn.cursor() as cur:
            cur.execute(f"select count(*) from {table}")
    assert "public.events is released" in done(
        call("adopt", "--table=events", "--release", "--yes")
    )


def test_installations_of_a_database_share_nothing(
    shared_url: str, redis_url: str, tmp_path: Path
) -> None:
    one, two = (installed(shared_url, redis_url, schema) for schema in NAMES)
    loaded(one, tmp_path, event(1, "u"), event(2, "v"))
    loaded(two, tmp_path, event(1, "u"), event(3, "u"), event(4, "w"), event(5, "x"))
    done(one("rollup", "--once"))
    with (
        serving(shared_url, redis_url, NAMES[0]) as first,
        serving(shared_url, redis_url, NAMES[1]) as second,
    ):
        for _ in range(2):  # the second time from Redis
            assert (counts(first), counts(second)) == ((2, 2), (4, 3))
        for call, adopted in ((one, (7, 7)), (two, (9, 8))):
            done(call("adopt", *ADOPT))
            done(call("rollup", "--once"))
            assert_counts(first if call is one else second, adopted)
        with connected(shared_url) as conn, conn.cursor() as cur:
            cur.execute(ORDER, (7,))
            triggers = "select tgname from pg_trigger where tgrelid = 'public.events'::regclass"
            cur.execute(triggers + " order by 1")
            assert [name for (name,) in cur] == [
                f"analytics_adopt_{name}" for name in sorted(NAMES)
            ]
        assert "released" in done(one("adopt", "--table=events", "--release", "--yes"))
        with connected(shared_url) as conn, conn.cursor() as cur:
            cur.execute(ORDER, (8,))
        done(one("erase", "u", "--yes"))
        assert_counts(first, (7, 7))
        assert_counts(second, (11, 10))
        assert ask(first, "users/u/events", **MARCH)["data"] == []
        assert len(ask(second, "users/u/events", **MARCH)["data"]) == 2
    for call in (one, two):
        done(call("rollup", "--once"))
        done(call("verify"))
        assert "This database has other installations, in the schemas: " in call("migrate").stderr


@pytest.mark.parametrize(
    ("schema", "other"),
    [("аналитика", "аналитики"), ("a" * 40 + "1", "a" * 40 + "2")],
    ids=["not ASCII", "long"],
)
def test_status_counts_the_sessions_of_its_schema_alone(
    empty_url: str, redis_url: str, schema: str, other: str
) -> None:
    call = installed(empty_url, redis_url, schema)
    urls = [in_schema(empty_url, name) for name in (schema, other, other)]
    with ExitStack() as stack:
        for url in urls:
            stack.enter_context(closing(connect(url, "analytics-rollup")))
        checks = json.loads(call("status", "--json").stdout)["checks"]
    (rollups,) = [check for check in checks if check["name"] == "rollups"]
    assert rollups["values"]["rollup_workers"] == 1


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_migrate_creates_a_second_installation_only_with_the_setting(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Version 0.1.0 put its tables where the search path of the database led."""
    url = empty_url.partition("?")[0]
    with connected(url) as conn:
        name = conn.info.dbname
        conn.cursor().execute(
            f'create schema stats; alter database "{name}" set search_path = stats'
        )
    with closing(psycopg2.connect(url)) as conn:
        migrate(conn, migrations()[:VERSION_0_1_0])
    environment = {"DATABASE_URL": url, "ANALYTICS_COMMAND": "ours"}
    monkeypatch.delenv("ANALYTICS_SCHEMA")
    if value is not None:
        environment["ANALYTICS_SCHEMA"] = value
    refused = run_cli("migrate", **environment)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: the schema public has no tables of this service, which are in: stats. Set "
        "ANALYTICS_SCHEMA to the schema of your tables, or, for another installation, set it to "
        "public and run `ours migrate`\n",
    )
    done(run_cli("migrate", **environment | {"ANALYTICS_SCHEMA": "stats"}))
    assert schemas_with_events(url) == ["stats"]
    done(run_cli("migrate", **environment | {"ANALYTICS_SCHEMA": "public"}))
    assert schemas_with_events(url) == ["public", "stats"]


def schemas_with_events(url: str) -> list[str]:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("select schemaname::text from pg_tables where tablename = 'events' order by 1")
        return [name for (name,) in cur]


def test_a_wrong_setting_is_told(shared_url: str, redis_url: str, tmp_path: Path) -> None:
    """And makes no second installation."""
    installed(shared_url, redis_url, "analytics")
    wrong = commands(shared_url, redis_url, "analytic")
    file = tmp_path / "events.ndjson"
    file.write_text(json.dumps(event(1, "u")))
    lines = set()
    for command in (
        ["load", str(file)], ["demo"], ["keys", "list"], ["adopt", *ADOPT], ["verify"], ["serve"],
        ["rollup"], ["rollup", "--once"], ["erase", "u", "--yes"], ["retain", "--raw=30d", "--yes"],
        ["status"],
    ):  # fmt: skip
        refused = wrong(*command, ANALYTICS_PORT="0", ANALYTICS_COMMAND="ours")
        assert refused.exit_code == 1, command
        lines.add(refused.stderr)
    assert lines == {
        "Error: the schema analytic has no tables of this service, which are in: analytics. Set "
        "ANALYTICS_SCHEMA to the schema of your tables, or, for another installation, set it to "
        "analytic and run `ours migrate`\n"
    }
    with connected(shared_url) as conn, conn.cursor() as cur:
        cur.execute("select to_regnamespace('analytic')")
        assert cur.fetchone() == (None,)
    refused = wrong("migrate", ANALYTICS_SCHEMA='"analytics"')
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: ANALYTICS_SCHEMA: must be a name of letters, digits, _, $ and -, of at most 63 "
        "bytes and without quotes\n",
    )


def test_a_table_is_found_by_its_name(shared_url: str, redis_url: str) -> None:
    """That of public comes first, and ours is none."""
    call = installed(shared_url, redis_url, "analytics")
    with connected(shared_url) as conn:
        conn.cursor().execute(
            "create schema app; create schema old; create table app.events (like public.events); "
            "create table app.orders (like public.events including indexes); "
            "create table app.visits (); create table old.visits (); create table analytics.mine ()"
        )
    assert "\npublic.events: " in "\n" + call("adopt", *ADOPT[:-1], stdin="n\n").stdout
    orders = ("--table=orders", *ADOPT[1:-1])
    assert "\napp.orders: " in "\n" + call("adopt", *orders, stdin="n\n").stdout
    for name, told in (
        ("visits", "two tables are named visits: "),
        ("mine", "no table is named mine: "),
        ("analytics.events", "analytics.events is the table of events of this service"),
    ):
        refused = call("adopt", f"--table={name}", "--check")
        assert (refused.exit_code, refused.stderr.startswith(f"Error: {told}")) == (1, True)
