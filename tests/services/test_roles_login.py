"""Roles of a fresh cluster: who makes them, and how they come in."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psycopg2
import pytest

from config.settings import Settings
from repo.migrate import migrate, migrations
from repo.roles import ROLES, Role, role_name
from repo.rollups.rollup_writer import RollupWriter
from services.embedded import Databases, Endpoints, embedded_servers
from services.server_urls import databases
from tests.cli import run_cli
from tests.events import insert
from tests.servers import OLDER_POSTGRES, OPTIONS, as_role, url_of
from tests.source_comparison import connected
from tests.tempdirs import temp_dir
from utils.time.zones import zone

VERSIONS = [None, *([OLDER_POSTGRES] if OLDER_POSTGRES.exists() else [])]


@pytest.fixture
def folder() -> Iterator[Path]:
    with temp_dir("logins") as made:
        yield made


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Path, Databases]]:
    """A folder whose servers run."""
    with temp_dir("logins") as made, databases(Settings(data_dir=made)) as urls:
        assert run_cli("migrate", ANALYTICS_DATA_DIR=str(made)).exit_code == 0
        yield made, urls


@pytest.fixture
def fresh(folder: Path, request: pytest.FixtureRequest) -> Iterator[Endpoints]:
    """A cluster without roles, of the version that the test names."""
    binaries = getattr(request, "param", None)
    with embedded_servers(folder, postgres_bin=binaries, postgres_options=OPTIONS) as endpoints:
        yield endpoints


def created(url: str, name: str, owner: str) -> str:
    with connected(url) as conn:
        conn.cursor().execute(f"create database {name} owner {owner}")
    return url_of(url, name)


def who(url: str) -> str:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("select current_user::text")
        (name,) = cur.fetchone() or ("",)
        return str(name)


@pytest.mark.parametrize("fresh", VERSIONS, ids=str, indirect=True)
def test_databases_of_one_cluster_make_them_at_once(fresh: Endpoints) -> None:
    urls = [created(fresh.database_url, f"d{n}", "analytics") for n in range(4)]

    def start(url: str) -> None:
        with closing(psycopg2.connect(url)) as conn:
            migrate(conn, migrations())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, urls))
    assert {role for role in ROLES if can_read(urls[3], role, "events")} == {"reader", "rollup"}


def can_read(url: str, role: Role, table: str) -> bool:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("select has_table_privilege(%s, %s, 'select')", (role_name(role), table))
        return cur.fetchone() == (True,)


def test_an_owner_who_may_not_make_them_is_told_what_to_do(fresh: Endpoints) -> None:
    with connected(fresh.database_url) as admin:
        admin.cursor().execute("create role plain login password 'x'")
        created(fresh.database_url, "plains", "plain")
        base_url = urlsplit(fresh.database_url).netloc.split("@")[1]
        url = f"postgresql://plain:x@{base_url}/plains"
        result = run_cli("migrate", DATABASE_URL=url)
        statements = " ".join(f"create role {role_name(role)};" for role in ROLES)
        assert result.exit_code == 0
        assert f"let an administrator run\n  {statements}\nand run" in result.stderr
        assert run_cli("rollup", "--once", DATABASE_URL=url).exit_code == 0
        admin.cursor().execute(statements)
    result = run_cli("migrate", DATABASE_URL=url)
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "The schema is up to date.\n",
        "",
    )
    assert can_read(url, "reader", "events")


OLD_LOGIN = """
create role analytics_folder;
create role folding login password 'x' in role analytics_folder;
"""


@pytest.mark.parametrize("fresh", VERSIONS, ids=str, indirect=True)
def test_logins_of_the_deprecated_role_have_the_rights_of_the_new_one(fresh: Endpoints) -> None:
    with connected(fresh.database_url) as admin:
        admin.cursor().execute(OLD_LOGIN)
    assert run_cli("migrate", DATABASE_URL=fresh.database_url).exit_code == 0
    assert folded_by("folding", fresh.database_url) == 1
    with connected(fresh.database_url) as admin, admin.cursor() as cur:
        cur.execute("select pg_has_role('folding', 'analytics_rollup', 'usage')")
        assert cur.fetchone() == (True,)


@pytest.mark.parametrize("fresh", VERSIONS, ids=str, indirect=True)
def test_an_owner_who_may_not_grant_roles_gives_the_deprecated_one_rights(fresh: Endpoints) -> None:
    with connected(fresh.database_url) as admin:
        admin.cursor().execute(OLD_LOGIN)
        admin.cursor().execute("create role plain login password 'x'")
        created(fresh.database_url, "plains", "plain")
        base_url = urlsplit(fresh.database_url).netloc.split("@")[1]
        url = f"postgresql://plain:x@{base_url}/plains"
        assert run_cli("migrate", DATABASE_URL=url).exit_code == 0
        assert folded_by("folding", url) == 1
        admin.cursor().execute("create role analytics_rollup")
    assert run_cli("migrate", DATABASE_URL=url).exit_code == 0
    assert can_read(url, "rollup", "events")


@pytest.mark.parametrize("fresh", VERSIONS, ids=str, indirect=True)
def test_the_new_role_may_already_be_a_member_of_the_deprecated_one(fresh: Endpoints) -> None:
    with connected(fresh.database_url) as admin:
        admin.cursor().execute(
            OLD_LOGIN + "create role analytics_rollup; grant analytics_folder to analytics_rollup"
        )
    result = run_cli("migrate", DATABASE_URL=fresh.database_url)
    assert (result.exit_code, result.stderr.count("Error")) == (0, 0), result.stderr
    assert folded_by("folding", fresh.database_url) == 1


def folded_by(login: str, url: str) -> int:
    """How many events this login folds, of one."""
    with connected(url) as owner:
        insert(owner, ("u", "view", datetime.now(UTC) - timedelta(hours=1)))
    parts = urlsplit(url)
    netloc = f"{login}:x@{parts.netloc.split('@')[1]}"
    with connected(parts._replace(netloc=netloc).geturl()) as conn:
        return RollupWriter(conn, [zone("UTC")]).catch_up()


def test_each_role_of_the_embedded_servers_has_a_login(served: tuple[Path, Databases]) -> None:
    _, urls = served
    assert {role: who(urls.url(role)) for role in ROLES} == {
        role: role_name(role) for role in ROLES
    }
    with (
        connected(urls.url("reader")) as reader,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        reader.cursor().execute("create temporary table mine (x int)")
    with connected(urls.owner) as owner:
        owner.cursor().execute("create role stranger login password 'x'")
    stranger = urls.owner.replace(f"analytics:{urlsplit(urls.owner).password}", "stranger:x")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(stranger)


@pytest.mark.parametrize("saved_passwords", [{}, {"reader": "r" * 32, "folder": "f" * 32}])
def test_a_data_directory_of_an_older_version_gets_logins(
    folder: Path, saved_passwords: dict[str, str]
) -> None:
    with embedded_servers(folder) as before:
        pass
    state = json.loads((folder / "places.json").read_text())
    state["role_passwords"] = saved_passwords
    (folder / "places.json").write_text(json.dumps(state))
    with databases(Settings(data_dir=folder)) as urls:
        assert urls.owner.startswith(before.database_url)
        assert run_cli("migrate", ANALYTICS_DATA_DIR=str(folder)).exit_code == 0
        assert who(urls.url("rollup")) == "analytics_rollup"


def test_servers_that_an_older_version_started_are_used_by_their_owner() -> None:
    saved = b'{"database_url": "o", "redis_url": "r", "by_role": {"reader": "q", "folder": "f"}}'
    urls = msgspec.json.decode(saved, type=Endpoints).databases
    assert [urls.url(role) for role in ROLES] == ["q", "o", "o", "o"]


def test_events_are_made_and_folded_by_their_roles(served: tuple[Path, Databases]) -> None:
    folder, urls = served
    url = {"ANALYTICS_DATA_DIR": str(folder)}
    assert "inserted 1,000" in run_cli("demo", "--events", "1000", **url).stdout
    assert run_cli("rollup", "--once", **url).stdout.startswith("Folded 1,000 events")
    with connected(urls.url("reader")) as conn, conn.cursor() as cur:
        cur.execute("select sum(events)::int from slots where name_id = 0")
        assert cur.fetchone() == (1000,)


def test_a_writer_needs_no_owner(database_url: str, tmp_path: Path) -> None:
    """`load` migrates where it may; where nothing is missing it need not."""
    file = tmp_path / "events.csv"
    file.write_text(
        "event_id,event_name,occurred_at\n"
        "00000000-0000-0000-0000-000000000001,view,2026-01-01T00:00:00Z\n"
    )
    result = run_cli("load", str(file), DATABASE_URL=as_role(database_url, "writer"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "inserted 1," in result.stdout
    result = run_cli("load", str(file), DATABASE_URL=as_role(database_url, "grafana"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
