"""What docker-compose.yml does, with its own files and commands, by the programs that it runs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

from services.embedded.binaries import child_user, chown_to_child
from tests.compose import ROOT, SERVICES, make_env_file, rendered_services, values
from tests.faults.conftest import Check, DedicatedServers
from tests.replica import PostgresServer, free_port, postgres_owned_dir, postgres_programs
from tests.runbooks import Shell
from tests.wait_until import wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that PostgreSQL's user can use."""
    with postgres_owned_dir("compose") as made:
        yield made


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return values(make_env_file(tmp_path))


@pytest.fixture
def postgres(own: DedicatedServers, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """PostgreSQL as the container makes and starts it; the address of its superuser."""
    programs = postgres_programs(own.folder)
    password, config = folder / "password", folder / "postgresql.conf"
    password.write_text(environment["POSTGRES_PASSWORD"])
    shutil.copy(ROOT / "containers" / "postgresql.conf", config)
    chown_to_child(password)
    subprocess.run(
        [
            *(str(programs / "initdb"), f"--pgdata={folder / 'data'}", "--no-sync"),
            *("--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256"),
            *SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split(),
        ],
        check=True,
        capture_output=True,
        cwd="/",
        **child_user(),
    )
    like = f"postgresql://postgres:{environment['POSTGRES_PASSWORD']}@postgres/postgres"
    server = PostgresServer(programs, folder / "data", free_port())
    with server.running(like, config_file=str(config)) as url:
        yield url


@pytest.fixture
def shell(own: DedicatedServers, folder: Path, environment: dict[str, str], postgres: str) -> Shell:
    return Shell(folder, postgres_programs(own.folder), {**environment, "URL": postgres})


def prepare(shell: Shell) -> None:
    """Logins, the schema, and the first key: what runs once before the service."""
    program, *options = SERVICES["roles"]["entrypoint"]
    arguments = [
        option.replace("/roles.sql", str(ROOT / "containers/roles.sql")) for option in options
    ]
    shell.run(" ".join([program, *arguments, '"$URL"']))
    shell.variables["DATABASE_URL"] = as_login(shell, "analytics", "OWNER_PASSWORD")
    shell.run(SERVICES["migrate"]["command"][0].replace("$$", "$"))


def as_login(shell: Shell, login: str, password: str) -> str:
    host_and_port = shell.variables["URL"].partition("@")[2].removesuffix("/postgres")
    return f"postgresql://{login}:{shell.variables[password]}@{host_and_port}/analytics"


def open_client(shell: Shell, base: str) -> httpx.Client:
    """Of who has the first key."""
    key = shell.variables["FIRST_KEY"]
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=20)


def one(url: str, statement: str) -> Any:
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute(statement)
        (value,) = cur.fetchone() or (None,)
        return value


def users(url: str) -> set[str]:
    return set(
        one(
            url,
            "select array_agg(distinct usename::text) from pg_stat_activity "
            "where datname = 'analytics' and application_name like 'analytics-%'",
        )
        or []
    )


@pytest.mark.parametrize(
    ("schema", "home"), [("Analytics-2", "Analytics-2"), ("", "public"), (None, "public")]
)
def test_the_tables_are_in_the_schema_of_the_settings(
    shell: Shell, schema: str | None, home: str
) -> None:
    if schema is not None:
        shell.variables["ANALYTICS_SCHEMA"] = schema
    prepare(shell)
    dashboards = as_login(shell, "dashboards", "DASHBOARDS_PASSWORD")
    assert (
        one(dashboards, "select current_schema() from daily_users right join pg_am on true") == home
    )


@pytest.mark.check(43)
def test_the_service_of_compose(
    own: DedicatedServers, shell: Shell, tmp_path: Path, postgres: str, check: Check
) -> None:
    """Each setting missing or bad"""
    prepare(shell)
    prepare(shell)  # each `up` does it again
    address = postgres.partition("@")[2].removesuffix("/postgres")
    settings = rendered_services(tmp_path / ".env")["analytics"]["environment"]
    shell.variables.update(
        (name, value.replace("postgres:5432", address)) for name, value in settings.items() if value
    )
    shell.variables["REDIS_URL"] = own.endpoints.redis_url
    with shell.serving("python main.py serve") as base, open_client(shell, base) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, timeout_s=20)
        sent = client.post("/events", json={"event_name": "view", "user_id": "u"})
        assert sent.json() == {"accepted": 1, "duplicates": 0}
        counted = client.get("/analytics/event-counts?last=1d").json()["data"]
        assert counted == {"events": 1, "users": 1}
        assert client.delete("/analytics/users/u").status_code == 403
        assert httpx.get(f"{base}/analytics/event-counts").status_code == 401
        wait_until(lambda: users(postgres) == {"questions", "ingestion", "rollup"}, timeout_s=10)
    check.record("the logins of compose: questions, ingestion, rollup")


def test_the_owner_is_no_superuser_and_grafana_reads_views_alone(shell: Shell) -> None:
    prepare(shell)
    owner = as_login(shell, "analytics", "OWNER_PASSWORD")
    may_more = "rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls"
    assert one(owner, f"select {may_more} from pg_roles where rolname = current_user") is False
    dashboards = as_login(shell, "dashboards", "DASHBOARDS_PASSWORD")
    assert one(dashboards, "select count(*) from daily_users") == 0
    assert one(dashboards, "show default_transaction_read_only") == "on"
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        one(dashboards, "select count(*) from events")


def test_a_password_that_is_changed_in_the_file_is_changed(shell: Shell) -> None:
    prepare(shell)
    before = as_login(shell, "questions", "QUESTIONS_PASSWORD")
    assert one(before, "select 1") == 1
    shell.variables["QUESTIONS_PASSWORD"] = "another-one"
    prepare(shell)
    assert one(as_login(shell, "questions", "QUESTIONS_PASSWORD"), "select 1") == 1
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(before)


def test_postgresql_is_set_as_its_file_says(postgres: str) -> None:
    """But for what these tests start it with."""
    refused = "select array_agg(name order by name) from pg_file_settings where error is not null"
    assert one(postgres, refused) == ["listen_addresses", "max_connections"]
    assert one(postgres, "show max_wal_size") == "4GB"
    assert one(postgres, "select datlocprovider::text || datlocale from pg_database limit 1") == (
        "bC.UTF-8"
    )


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's prometheus"
    token = tmp_path / "token"
    token.write_text("x")
    if (ROOT / "prometheus").exists():
        shutil.copytree(ROOT / "prometheus", tmp_path / "prometheus")
    text = (ROOT / "prometheus.yml").read_text()
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/run/prometheus/metrics-token", str(token)))
    done = subprocess.run(
        [promtool, "check", "config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
